"""The comparison of a study's methods as derived frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from prunepeft_ray.analysis.charges import charged_jobs
from prunepeft_ray.analysis.comparison import best_so_far
from prunepeft_ray.analysis.frame import NUMBER, TEXT, WHOLE, YES, DerivedFrame, fitted
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd


_PLACE = (
    Column("model", TEXT, "backbone, as the user named it"),
    Column("task", TEXT, "task, as the user named it"),
)
_METHOD = Column("method", TEXT, "the method's label in the study, or what a made-up row is called")
_ROLE = Column(
    "role",
    TEXT,
    "method; reference: may be above the budget; choice: the best single criterion by dev; oracle: by test, which "
    "nobody can know before",
)
_SEARCH = (
    *_PLACE,
    Column("method", TEXT, "the method's label in the study"),
    Column("seed", WHOLE, "seed of the search"),
)
_NEW_SEEDS = "new seeds of search and retraining"
_PAIRS = Column("pairs", WHOLE, "pairs of searches with the same model, task and seed")


def _difference(n: str, mean: str, interval: str) -> tuple[Column, ...]:
    return (
        Column("difference_n", WHOLE, n),
        Column("difference_mean", NUMBER, f"difference to `prunepeft` on test: mean over {mean}"),
        Column("difference_low", NUMBER, f"lower end of its 95 % confidence interval, for {interval}"),
        Column("difference_high", NUMBER, "upper end"),
        Column("difference_df", NUMBER, "degrees of freedom of interval and test"),
        Column("difference_p", NUMBER, "two-sided p value of the test that there is no difference"),
        Column(
            "difference_p_holm", NUMBER, "the same, corrected for the number of rows of role method tested here (Holm)"
        ),
    )


def _estimate(split: str) -> tuple[Column, ...]:
    return (
        Column(f"{split}_n", WHOLE, f"searches with a value on {split}"),
        Column(f"{split}_mean", NUMBER, f"deciding metric on {split}: of a search the mean over its retrainings"),
        Column(f"{split}_deviation", NUMBER, "its standard deviation over searches"),
        Column(f"{split}_low", NUMBER, f"lower end of the mean's 95 % confidence interval, for {_NEW_SEEDS}"),
        Column(f"{split}_high", NUMBER, "upper end"),
        Column(f"{split}_df", NUMBER, "degrees of freedom of that interval"),
    )


def _cost(part: str, of_what: str) -> tuple[Column, ...]:
    return (
        Column(f"{part}_jobs", NUMBER, f"jobs of {of_what}"),
        Column(f"{part}_examples", NUMBER, "examples trained on, each as often as seen", "examples"),
        Column(f"{part}_epochs", NUMBER, "the same in passes over the training split"),
        Column(f"{part}_steps", NUMBER, "optimiser steps"),
        Column(f"{part}_flops", NUMBER, "operations of training", "FLOP"),
        Column(f"{part}_device_seconds", NUMBER, "wall-clock time times devices", "s"),
        Column(f"{part}_wall_seconds", NUMBER, "wall-clock time of the jobs as if they ran one by one", "s"),
        Column(f"{part}_peak_memory_bytes", WHOLE, "most memory of any job", "bytes"),
    )


def _methods(results: Results) -> pd.DataFrame:
    return fitted(results.comparison.frame(), METHODS.columns)


def _overall(results: Results) -> pd.DataFrame:
    return fitted(results.comparison.overall_frame(), OVERALL.columns)


def _best_so_far(results: Results) -> pd.DataFrame:
    return fitted(best_so_far(results.as_study), BEST_SO_FAR.columns)


def _charges(results: Results) -> pd.DataFrame:
    return fitted(charged_jobs(results.as_study), CHARGES.columns)


METHODS = DerivedFrame(
    "methods",
    "One row per model, task and method: what it found, what it cost, and how sure that is. Costs of search and "
    "retraining are means over the searches that are done.",
    (
        *_PLACE,
        _METHOD,
        _ROLE,
        Column("chosen", TEXT, "the single criterion that a choice or an oracle took"),
        Column("metric", TEXT, "the deciding metric"),
        Column("done", WHOLE, "searches that have ended with an architecture"),
        Column("failed", WHOLE, "searches that have failed"),
        Column("missing", WHOLE, "searches that have not ended"),
        Column("retrained", WHOLE, "finished retrainings"),
        Column("retrainings_failed", WHOLE, "retrainings that have failed"),
        Column("retrainings_missing", WHOLE, "retrainings of ended searches that are not there yet"),
        *_estimate("test"),
        *_estimate("dev"),
        Column(
            "retraining_deviation", NUMBER, "deviation on test among retrainings of one choice, pooled over searches"
        ),
        *_difference("pairs of searches with the same seed", "those pairs, of equal retraining seeds", _NEW_SEEDS),
        Column("parameters_min", WHOLE, "fewest PEFT parameters of a chosen architecture"),
        Column("parameters_max", WHOLE, "most"),
        Column("percent", NUMBER, "the most as a percentage of the backbone", "%"),
        Column("backbone_parameters", WHOLE, "parameters of the backbone without its head"),
        Column("budget", WHOLE, "most parameters allowed"),
        Column("within_budget", YES, "whether every chosen architecture is within the budget; null if not known yet"),
        Column(
            "pareto",
            YES,
            "whether no other row here has a better test mean at no more parameters, or as good at fewer",
        ),
        Column(
            "search_ended", YES, "whether the cost of search is of searches that are done, or else of what there is"
        ),
        Column("search_evaluations", NUMBER, "candidates evaluated by a search"),
        Column("search_proposal_seconds", NUMBER, "wall-clock time that the method itself spent deciding", "s"),
        *_cost("search", "a search, retraining aside"),
        *_cost("retraining", "all retrainings of a search"),
        *_cost("single_retraining", "one retraining"),
        *_cost("total", "all searches, failed and unfinished ones too, and all retrainings, summed up"),
    ),
    _methods,
)
OVERALL = DerivedFrame(
    "overall",
    "One row per method but `prunepeft`: the difference to it over all tasks, each with the mean over its models and "
    "pairs.",
    (
        _METHOD,
        _ROLE,
        Column("places", WHOLE, "models and tasks, counted together, with a pair"),
        _PAIRS,
        *_difference("tasks with a pair", "those tasks", "new tasks like these, with the models of the study"),
    ),
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
        Column("metric", TEXT, "the deciding metric"),
        Column("dev", NUMBER, "that metric on dev; null if it was not measured there or the job failed"),
        Column("test", NUMBER, "on test; null unless final"),
        Column("parameters", WHOLE, "PEFT parameters, as torch counts them"),
        Column("budget", WHOLE, "most PEFT parameters of the final architecture"),
        Column("backbone_parameters", WHOLE, "parameters of the backbone without its head"),
        Column("train_examples", WHOLE, "examples seen in training, each as often as seen", "examples"),
        Column("passes", NUMBER, "the same in passes over the training split"),
        Column("steps", WHOLE, "optimiser steps"),
        Column("flops", NUMBER, "operations of training", "FLOP"),
        Column("device_seconds", NUMBER, "wall-clock time times devices taking part", "s"),
        Column("wall_seconds", NUMBER, "wall-clock time", "s"),
        Column("peak_memory_bytes", WHOLE, "most GPU memory, or resident memory on a CPU", "bytes"),
    ),
    _charges,
)
