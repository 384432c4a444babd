"""What every search of a study is charged for: the jobs that it asked for, whoever they ran for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from prunepeft_ray.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

CELL = ("model", "task", "method")
SEARCH = (*CELL, "seed")
"""Columns that name a search within a study."""
_OF_JOBS = (
    "job_id",
    "status",
    "metric",
    "parameters",
    "budget",
    "backbone_parameters",
    "train_examples",
    "steps",
    "flops",
    "device_seconds",
    "wall_seconds",
    "peak_memory_bytes",
)


class Tables(Protocol):
    """Where tables can be read: the results store, or opened results, which keep what they have read."""

    @property
    def folder(self) -> Path:
        """Where they lie."""

    def read(self, table: str) -> pd.DataFrame:
        """Return a table."""


class LoneSearch:
    """The tables of a search by itself, as those of a study of one.

    Args:
        tables: Where its tables can be read.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.folder = tables.folder

    def read(self, table: str) -> pd.DataFrame:
        """Return a table; of requests and searches what they would be in a study."""
        found = self._tables.read(table)
        if table == "requests":
            return self._requests()[list(found.columns)]
        return self._searches()[list(found.columns)] if table == "searches" else found

    def _requests(self) -> pd.DataFrame:
        jobs = self._tables.read("jobs").sort_values("finished_at", kind="stable")
        return jobs.assign(position=range(len(jobs)), retrain_seed=jobs.seed.where(jobs.kind == "final"))

    def _searches(self) -> pd.DataFrame:
        jobs = self._tables.read("jobs")
        ended = jobs[jobs.kind == "final"]
        return ended.assign(reference=False, evaluations=0, proposal_seconds=0.0, architecture="")


@dataclass(frozen=True)
class CostAccount:
    """What jobs cost together; of several searches also the mean.

    Args:
        evaluations: Candidates evaluated.
        jobs: Jobs.
        examples: Examples trained on, each as often as it was seen.
        epochs: The same in passes over the training split (paper, Table 4).
        steps: Optimiser steps.
        flops: Operations of training.
        device_seconds: Wall-clock seconds times devices.
        wall_seconds: The jobs' wall-clock seconds, as if they ran one by one.
        proposal_seconds: Seconds that the method itself spent deciding.
        peak_memory_bytes: Most memory of any job.
    """

    evaluations: float = 0.0
    jobs: float = 0.0
    examples: float = 0.0
    epochs: float = 0.0
    steps: float = 0.0
    flops: float = 0.0
    device_seconds: float = 0.0
    wall_seconds: float = 0.0
    proposal_seconds: float = 0.0
    peak_memory_bytes: int = 0


def charged_jobs(tables: Tables) -> pd.DataFrame:
    """Join what searches asked for with the jobs that ran.

    A search is charged once for a job, however often it asks for it; two searches that ask for the same job are both
    charged.

    Args:
        tables: The results.

    Returns:
        One row per search and job, in the order in which the search was told; ``dev`` and ``test`` hold the deciding
        metric (NaN if it was not measured there, or the job failed), ``passes`` the examples in passes over the
        training split.

    Raises:
        InputError: If the store holds several studies.
        RunError: If a file is damaged.
    """
    requests, jobs = tables.read("requests"), tables.read("jobs")
    studies = sorted({*requests.run_id, *tables.read("searches").run_id})
    if len(studies) > 1:
        raise InputError(
            f"{tables.folder} holds the results of {len(studies)} studies on different terms ({', '.join(studies)}); "
            "expected those of one"
        )
    on_dev = (jobs.status == "done") & (jobs.evaluate == "dev")
    known = jobs[list(_OF_JOBS)].assign(
        dev=_deciding(jobs, "metrics").where(on_dev),
        test=_deciding(jobs, "test_metrics").where(jobs.status == "done"),
        passes=jobs.train_examples / jobs.task_train_size,
    )
    once = requests.sort_values([*SEARCH, "position"]).drop_duplicates([*SEARCH, "job_id"])
    return once.merge(known, on="job_id", validate="many_to_one")


def account(jobs: pd.DataFrame, evaluations: float = 0.0, proposal_seconds: float = 0.0) -> CostAccount:
    """Sum up what jobs cost.

    Args:
        jobs: Rows of :func:`charged_jobs`.
        evaluations: Candidates evaluated.
        proposal_seconds: Seconds that the method itself spent deciding.
    """
    return CostAccount(
        evaluations=evaluations,
        jobs=len(jobs),
        examples=float(jobs.train_examples.sum()),
        epochs=float(jobs.passes.sum()),
        steps=float(jobs.steps.sum()),
        flops=float(jobs.flops.sum()),
        device_seconds=float(jobs.device_seconds.sum()),
        wall_seconds=float(jobs.wall_seconds.sum()),
        proposal_seconds=proposal_seconds,
        peak_memory_bytes=int(jobs.peak_memory_bytes.max()) if len(jobs) else 0,
    )


def add_up(accounts: Iterable[CostAccount], *, parts: int = 1) -> CostAccount:
    """Sum accounts, or average them over a number of parts; of peak memory always the most."""
    accounts = tuple(accounts)
    sums = {
        name: sum(getattr(one, name) for one in accounts) / max(parts, 1)
        for name in CostAccount.__dataclass_fields__
        if name != "peak_memory_bytes"
    }
    return CostAccount(**sums, peak_memory_bytes=max((one.peak_memory_bytes for one in accounts), default=0))


def active_seconds(jobs: pd.DataFrame) -> float:
    """Return in how many seconds any job ran: gaps in which none did, as between interruption and resume, are out.

    Args:
        jobs: Rows with ``started_at`` and ``finished_at``.
    """
    if jobs.empty:
        return 0.0
    ordered = jobs.sort_values("started_at")
    latest = ordered.finished_at.cummax()
    idle = (ordered.started_at - latest.shift()).dt.total_seconds().clip(lower=0).sum()
    return float((latest.iloc[-1] - ordered.started_at.iloc[0]).total_seconds() - idle)


def _deciding(jobs: pd.DataFrame, measured: str) -> pd.Series[float]:
    import pandas as pd

    values = [metrics.get(name) for metrics, name in zip(jobs[measured], jobs.metric, strict=True)]
    return pd.Series(values, index=jobs.index, dtype="float64")
