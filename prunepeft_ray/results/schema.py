"""The tables of the results store: every column with its type, unit and meaning, in one place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 4
READABLE = (2, 3, 4)
"""Versions that can be read; columns that a file's version did not have are null."""

_METRICS = pa.map_(pa.string(), pa.float64())
_TEXTS = pa.map_(pa.string(), pa.string())
_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: Its name.
        type: Its Arrow type.
        meaning: What it says.
        unit: Its unit, or an empty string.
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
        Column("job_seed", pa.int64(), "seed of the job, derived from the run's"),
        Column("kind", pa.string(), "part in the method: warmup, round, candidate or final"),
        Column("label", pa.string(), "a few words for people"),
        Column("architecture_id", pa.string(), "digest of the architecture"),
        Column("slots", pa.int32(), "filled slots"),
        Column("parameters", pa.int64(), "PEFT parameters, as torch counts them"),
        Column("head_parameters", pa.int64(), "parameters of the task head, not in the budget"),
        Column("backbone_parameters", pa.int64(), "parameters of the backbone without its head"),
        Column("budget", pa.int64(), "most PEFT parameters of the final architecture"),
        Column("train_size", pa.int64(), "examples in the job's training subset; null: the whole split", "examples"),
        Column("epochs", pa.int32(), "most epochs asked for"),
        Column("epochs_done", pa.int32(), "epochs trained"),
        Column("best_epoch", pa.int32(), "1-based epoch with the best metric"),
        Column("evaluate", pa.string(), "what metrics are measured on: none, dev or holdout (of the subset)"),
        Column("metric", pa.string(), "the deciding metric"),
        Column("metrics", _METRICS, "best epoch's metrics on what `evaluate` says, loss among them"),
        Column(
            "test_metrics",
            _METRICS,
            "metrics on the test split, and on further ones with a suffix (_mismatched); empty unless a final job",
        ),
        Column("status", pa.string(), "done or failed"),
        Column("reason", pa.string(), "why it failed"),
        Column("train_examples", pa.int64(), "examples seen in training, each as often as seen", "examples"),
        Column(
            "redone_examples",
            pa.int64(),
            "examples trained on beyond train_examples, in attempts that were lost; at most some seconds of training "
            "too many for each kill, never too few; since version 4",
            "examples",
        ),
        Column("eval_examples", pa.int64(), "examples evaluated", "examples"),
        Column("steps", pa.int64(), "optimiser steps"),
        Column("micro_batches", pa.int32(), "parts of a batch, computed one by one or shared among workers"),
        Column("restarts", pa.int32(), "how often the job was taken up again from a checkpoint"),
        Column("flops", pa.float64(), "operations of training, counted on one micro-batch, scaled by tokens", "FLOP"),
        Column("device_seconds", pa.float64(), "wall-clock time times devices taking part", "s"),
        Column("wall_seconds", pa.float64(), "wall-clock time", "s"),
        Column("peak_memory_bytes", pa.int64(), "most GPU memory, or resident memory on a CPU", "bytes"),
        Column("workers", pa.list_(pa.string()), "processes that trained it, as host:process; since version 3"),
        Column("started_at", _TIME, "start; of the last attempt at a job that was taken up again", "UTC"),
        Column("finished_at", _TIME, "end", "UTC"),
        Column("job_json", pa.string(), "the whole job as JSON"),
        Column("versions", _TEXTS, "versions of Python and packages"),
        Column("hardware", _TEXTS, "processor, cores, memory and accelerator"),
    ),
    "epochs": (
        Column("job_id", pa.string(), "the job"),
        Column("epoch", pa.int32(), "1-based epoch"),
        Column("train_loss", pa.float64(), "mean training loss of the epoch's batches"),
        Column("metrics", _METRICS, "what was measured after the epoch"),
        Column("seconds", pa.float64(), "wall-clock time, evaluation included", "s"),
    ),
    "scores": (
        Column("job_id", pa.string(), "the job"),
        Column("criterion", pa.string(), "pruning criterion"),
        *_SLOT,
        Column("theta", pa.float64(), "the criterion's raw value, Theta"),
        Column("theta_even", pa.float64(), "the same from every other optimiser step or weight; since version 4"),
        Column("theta_odd", pa.float64(), "the same from all others; null like it where a half is empty"),
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
        Column("job_id", pa.string(), "the job whose scores this rests on"),
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
        Column("position", pa.int32(), "0-based place in the order in which the search was told its results"),
        Column("job_id", pa.string(), "the job; it may have run for another search, and is charged to this one too"),
        Column("kind", pa.string(), "part in the method: warmup, round, candidate or final"),
        Column("label", pa.string(), "a few words for people"),
        Column("retrain_seed", pa.int64(), "seed of the study under which the choice is retrained; null unless final"),
    ),
    "searches": (
        *_SEARCH,
        Column("status", pa.string(), "done or failed"),
        Column("reason", pa.string(), "why it failed"),
        Column("architecture_id", pa.string(), "digest of the chosen architecture; empty if there is none"),
        Column("parameters", pa.int64(), "PEFT parameters of the chosen architecture, as torch counts them"),
        Column("budget", pa.int64(), "most PEFT parameters of the chosen architecture"),
        Column("reference", pa.bool_(), "whether the method may end above the budget"),
        Column("evaluations", pa.int32(), "candidates that the method evaluated"),
        Column("proposal_seconds", pa.float64(), "wall-clock time that the method itself spent deciding", "s"),
        Column("architecture", pa.string(), "the chosen architecture as JSON; empty if there is none"),
    ),
}

KEYED_BY_JOB = ("jobs", "epochs", "scores", "architectures")
"""Tables with one file per job, which count only where the job's file in ``jobs`` is there."""


def arrow_schema(table: str) -> pa.Schema:
    """Return a table's Arrow schema; its metadata carry the schema's version."""
    return pa.schema(
        [(column.name, column.type) for column in TABLES[table]],
        metadata={"prunepeft_schema_version": str(SCHEMA_VERSION)},
    )


def columns_markdown(columns: Iterable[Column]) -> str:
    """Describe columns as a table in Markdown."""
    # a bar would end the cell
    rows = [f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning.replace('|', chr(92) + '|')} |" for c in columns]
    return "| column | type | unit | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
