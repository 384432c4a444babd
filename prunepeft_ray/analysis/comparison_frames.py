"""The comparison of a study's methods as derived frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from prunepeft_ray.analysis.charges import charged_jobs
from prunepeft_ray.analysis.columns import NUMBER, TEXT, WHOLE, YES, fitted
from prunepeft_ray.analysis.comparison import best_so_far
from prunepeft_ray.analysis.frame import DerivedFrame
from prunepeft_ray.analysis.method_rows import METHOD_COLUMNS, OVERALL_COLUMNS
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd


_PLACE = (
    Column("model", TEXT, "backbone, as the user named it"),
    Column("task", TEXT, "task, as the user named it"),
)
_SEARCH = (
    *_PLACE,
    Column("method", TEXT, "the method's label in the study"),
    Column("seed", WHOLE, "seed of the search"),
)


def _methods(results: Results) -> pd.DataFrame:
    return results.comparison.frame()


def _overall(results: Results) -> pd.DataFrame:
    return results.comparison.overall_frame()


def _best_so_far(results: Results) -> pd.DataFrame:
    return fitted(best_so_far(results["charges"]), BEST_SO_FAR.columns)


def _charges(results: Results) -> pd.DataFrame:
    return fitted(charged_jobs(results.as_study), CHARGES.columns)


METHODS = DerivedFrame(
    "methods",
    "One row per model, task and method: what it found, what it cost, and how sure that is. Costs of search and "
    "retraining are means over the searches that are done.",
    METHOD_COLUMNS,
    _methods,
)
OVERALL = DerivedFrame(
    "overall",
    "One row per method but `prunepeft`: the difference to it over all tasks, each with the mean over its models and "
    "pairs.",
    OVERALL_COLUMNS,
    _overall,
)
BEST_SO_FAR = DerivedFrame(
    "best_so_far",
    "One row per candidate that a search evaluated: the best so far against all that the search had cost by then.",
    (
        *_SEARCH,
        Column("position", pa.int32(), "0-based place in the order in which the search was told its results"),
        Column("evaluations", WHOLE, "candidates evaluated until then"),
        Column("examples", WHOLE, "examples trained on until then", "examples"),
        Column("epochs", NUMBER, "the same in passes over the training split"),
        Column("flops", NUMBER, "operations of training until then", "FLOP"),
        Column("device_seconds", NUMBER, "wall-clock time times devices until then", "s"),
        Column("value", NUMBER, "best dev metric of a candidate within budget; null before there is one"),
    ),
    _best_so_far,
)
CHARGES = DerivedFrame(
    "charges",
    "One row per search and job that it is charged for, in the order in which the search was told: once for a job, "
    "however often it asks; two searches that ask for one job are both charged.",
    (
        *_SEARCH,
        Column("position", pa.int32(), "0-based place in that order"),
        Column("kind", TEXT, "part in the method: warmup, round, candidate or final"),
        Column("label", TEXT, "a few words for people"),
        Column("retrain_seed", WHOLE, "seed of the study under which the choice is retrained; null unless final"),
        Column("job_id", TEXT, "the job"),
        Column("status", TEXT, "done or failed"),
        Column("metric", TEXT, "the primary metric"),
        Column("dev", NUMBER, "that metric on dev; null if it was not measured there or the job failed"),
        Column("test", NUMBER, "on test; null unless final"),
        Column("parameters", WHOLE, "PEFT parameters, as torch counts them"),
        Column("budget", WHOLE, "most PEFT parameters of the final architecture"),
        Column("backbone_parameters", WHOLE, "parameters of the backbone without its head"),
        Column("train_examples", WHOLE, "examples seen in training, each as often as seen", "examples"),
        Column("passes", NUMBER, "the same in passes over the training split"),
        Column("redone_examples", WHOLE, "examples trained on once more, in attempts that were lost", "examples"),
        Column("steps", WHOLE, "optimiser steps"),
        Column("flops", NUMBER, "operations of training", "FLOP"),
        Column("device_seconds", NUMBER, "wall-clock time times devices taking part", "s"),
        Column("wall_seconds", NUMBER, "wall-clock time", "s"),
        Column("peak_memory_bytes", WHOLE, "most GPU memory, or resident memory on a CPU", "bytes"),
        Column("reused", YES, "whether its result was read from the pool of finished jobs"),
    ),
    _charges,
)
