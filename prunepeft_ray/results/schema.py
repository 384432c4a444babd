"""The tables of the results store: every column with its type, unit and meaning, in one place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 5
READABLE = (2, 3, 4, 5)
"""Schema versions that can be read; columns that a version did not have are null."""

_METRICS = pa.map_(pa.string(), pa.float64())
_TEXTS = pa.map_(pa.string(), pa.string())
_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: Name of the column.
        type: Arrow type.
        meaning: Description for the reference.
        unit: Unit, or an empty string.
    """

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""


_SLOT = (
    Column("slot", pa.string(), "slot, as kind.layer"),
    Column("layer", pa.int32(), "0-based layer of the slot"),
    Column(
        "kind",
        pa.string(),
        "slot kind: PA (query and value), PF (parallel to the FFN), PT (prefix), SA (serial adapter) or FT (the whole "
        "layer, in full fine-tuning)",
    ),
)

_SEARCH = (
    Column("run_id", pa.string(), "digest of the study's terms"),
    Column("method", pa.string(), "the method's label in the study"),
    Column("task", pa.string(), "task, as the user named it"),
    Column("model", pa.string(), "backbone, as the user named it"),
    Column("seed", pa.int64(), "seed of the search"),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "jobs": (
        Column("run_id", pa.string(), "digest of the run's spec"),
        Column("job_id", pa.string(), "digest of the job's content; equal jobs have equal ids in any run"),
        Column("method", pa.string(), "search method"),
        Column("model", pa.string(), "backbone, as the user named it"),
        Column("model_fingerprint", pa.string(), "digest of the backbone's weights"),
        Column("task", pa.string(), "task, as the user named it"),
        Column("task_fingerprint", pa.string(), "digest of texts, labels and splits"),
        Column("task_train_size", pa.int64(), "size of the task's training split, |D|", "examples"),
        Column("seed", pa.int64(), "seed of the run"),
        Column("job_seed", pa.int64(), "seed of the job, derived from the run's seed"),
        Column("kind", pa.string(), "role in the method: warmup, round, candidate or final"),
        Column("label", pa.string(), "short description of the job"),
        Column("architecture_id", pa.string(), "digest of the architecture"),
        Column("slots", pa.int32(), "number of filled slots"),
        Column("parameters", pa.int64(), "number of PEFT parameters, as counted by torch"),
        Column("head_parameters", pa.int64(), "number of parameters of the task head, which the budget excludes"),
        Column("backbone_parameters", pa.int64(), "number of parameters of the backbone without its head"),
        Column("budget", pa.int64(), "maximum number of PEFT parameters of the final architecture"),
        Column("train_size", pa.int64(), "size of the job's training subset; null: the whole split", "examples"),
        Column("epochs", pa.int32(), "maximum number of epochs"),
        Column("epochs_done", pa.int32(), "number of epochs trained"),
        Column("best_epoch", pa.int32(), "1-based epoch with the best metric"),
        Column("evaluate", pa.string(), "what metrics are computed on: none, dev or holdout (of the subset)"),
        Column("metric", pa.string(), "the primary metric, on which decisions are based"),
        Column("metrics", _METRICS, "metrics of the best epoch on the data that `evaluate` names, including loss"),
        Column(
            "test_metrics",
            _METRICS,
            "metrics on the test split, and on further ones with a suffix (_mismatched); empty except for final jobs",
        ),
        Column("status", pa.string(), "done or failed"),
        Column("reason", pa.string(), "why the job failed"),
        Column("train_examples", pa.int64(), "examples trained on, counted every time", "examples"),
        Column(
            "redone_examples",
            pa.int64(),
            "examples trained on in addition to train_examples, in attempts that were lost; for each kill, too high by "
            "at most a few seconds of training, and never too low; since version 4",
            "examples",
        ),
        Column("eval_examples", pa.int64(), "examples evaluated", "examples"),
        Column("steps", pa.int64(), "number of optimiser steps"),
        Column("micro_batches", pa.int32(), "parts of a batch, computed one by one or shared among workers"),
        Column("restarts", pa.int32(), "how often the job was resumed from a checkpoint"),
        Column("flops", pa.float64(), "training operations, computed from the shapes of all matrix products", "FLOP"),
        Column("device_seconds", pa.float64(), "wall-clock time times the number of devices", "s"),
        Column("wall_seconds", pa.float64(), "wall-clock time", "s"),
        Column("peak_memory_bytes", pa.int64(), "peak GPU memory, or peak resident memory on a CPU", "bytes"),
        Column("workers", pa.list_(pa.string()), "processes that trained the job, as host:process; since version 3"),
        Column(
            "reused",
            pa.bool_(),
            "whether the result was read from the pool of finished jobs: costs, versions and hardware are those of when"
            " it ran; workers is empty, and its times are those of the reading; since version 5",
        ),
        Column("started_at", _TIME, "start time; of the last attempt if the job was resumed", "UTC"),
        Column("finished_at", _TIME, "end time", "UTC"),
        Column("job_json", pa.string(), "the complete job as JSON"),
        Column("versions", _TEXTS, "versions of Python and packages"),
        Column("hardware", _TEXTS, "processor, cores, memory and accelerator"),
    ),
    "epochs": (
        Column("job_id", pa.string(), "the job"),
        Column("epoch", pa.int32(), "1-based epoch"),
        Column("train_loss", pa.float64(), "mean training loss of the epoch"),
        Column("metrics", _METRICS, "metrics after the epoch; empty if none were computed"),
        Column("seconds", pa.float64(), "wall-clock time, including evaluation", "s"),
    ),
    "scores": (
        Column("job_id", pa.string(), "the job"),
        Column("criterion", pa.string(), "pruning criterion"),
        *_SLOT,
        Column("theta", pa.float64(), "the criterion's raw value, Theta"),
        Column("theta_even", pa.float64(), "Theta from every other optimiser step or weight; since version 4"),
        Column("theta_odd", pa.float64(), "Theta from the remaining ones; both are null where a half is empty"),
    ),
    "decisions": (
        Column("run_id", pa.string(), "the run"),
        Column("step", pa.string(), "warmup or round"),
        Column("index", pa.int32(), "1-based number of the turn or round"),
        *_SLOT,
        Column("partition", pa.string(), "partition of the slot, as block.kind"),
        Column("criteria", pa.list_(pa.string()), "criteria that judged the slot"),
        Column("probability", pa.float64(), "round: probability of being pruned, p(m); warmup: the criterion's score"),
        Column("removed", pa.bool_(), "whether the slot was removed"),
        Column("job_id", pa.string(), "the job whose scores the decision is based on"),
    ),
    "architectures": (
        Column("architecture_id", pa.string(), "digest of the architecture"),
        Column("job_id", pa.string(), "the job that trained it"),
        *_SLOT,
        Column("module", pa.string(), "module type in the slot"),
        Column("size", pa.int32(), "LoRA rank, adapter bottleneck or number of prefix vectors"),
    ),
    "requests": (
        *_SEARCH,
        Column("position", pa.int32(), "0-based position in the order in which the search received its results"),
        Column("job_id", pa.string(), "the job; it may have run for another search, and is charged to this one too"),
        Column("kind", pa.string(), "role in the method: warmup, round, candidate or final"),
        Column("label", pa.string(), "short description of the job"),
        Column("retrain_seed", pa.int64(), "seed of the study used for the retraining; null unless final"),
    ),
    "searches": (
        *_SEARCH,
        Column("status", pa.string(), "done or failed"),
        Column("reason", pa.string(), "why the search failed"),
        Column("architecture_id", pa.string(), "digest of the chosen architecture; empty if there is none"),
        Column("parameters", pa.int64(), "number of PEFT parameters of the chosen architecture, as counted by torch"),
        Column("budget", pa.int64(), "maximum number of PEFT parameters of the chosen architecture"),
        Column("reference", pa.bool_(), "whether the method may exceed the budget"),
        Column("evaluations", pa.int32(), "number of candidates that the method evaluated"),
        Column("proposal_seconds", pa.float64(), "wall-clock time that the method itself took to decide", "s"),
        Column("architecture", pa.string(), "the chosen architecture as JSON; empty if there is none"),
    ),
}

KEYED_BY_JOB = ("jobs", "epochs", "scores", "architectures")
"""Tables with one file per job, which count only if the job's file in ``jobs`` exists."""


def arrow_schema(table: str) -> pa.Schema:
    """Return a table's Arrow schema; its metadata contain the schema version."""
    return pa.schema(
        [(column.name, column.type) for column in TABLES[table]],
        metadata={"prunepeft_schema_version": str(SCHEMA_VERSION)},
    )


def columns_markdown(columns: Iterable[Column]) -> str:
    """Return a Markdown table that describes columns."""
    # an unescaped bar would end the cell
    rows = [f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning.replace('|', chr(92) + '|')} |" for c in columns]
    return "| column | type | unit | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
