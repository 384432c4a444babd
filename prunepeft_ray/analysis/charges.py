"""What every search of a study is charged for: the jobs that it asked for, whoever they ran for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from prunepeft_ray.analysis.columns import NUMBER, WHOLE, Described
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
    "redone_examples",
    "steps",
    "flops",
    "device_seconds",
    "wall_seconds",
    "peak_memory_bytes",
    "reused",
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
    """What jobs cost together; of several searches also the mean."""

    evaluations: Annotated[float, Described(NUMBER, "candidates evaluated by {what}")] = 0.0
    jobs: Annotated[float, Described(NUMBER, "jobs of {what}")] = 0.0
    examples: Annotated[float, Described(NUMBER, "examples trained on, each as often as seen", "examples")] = 0.0
    epochs: Annotated[float, Described(NUMBER, "the same in passes over the training split (paper, Table 4)")] = 0.0
    steps: Annotated[float, Described(NUMBER, "optimiser steps")] = 0.0
    flops: Annotated[float, Described(NUMBER, "operations of training", "FLOP")] = 0.0
    device_seconds: Annotated[float, Described(NUMBER, "wall-clock time times devices", "s")] = 0.0
    wall_seconds: Annotated[float, Described(NUMBER, "wall-clock time of the jobs as if they ran one by one", "s")] = (
        0.0
    )
    proposal_seconds: Annotated[
        float, Described(NUMBER, "wall-clock time that the method itself spent deciding", "s")
    ] = 0.0
    peak_memory_bytes: Annotated[int, Described(WHOLE, "most memory of any job", "bytes")] = 0
    redone: Annotated[
        float,
        Described(NUMBER, "examples trained on once more, in attempts that were lost; no part of the cost", "examples"),
    ] = 0.0
    reused: Annotated[
        float, Described(NUMBER, "jobs read from the pool of finished jobs, charged what they cost when they ran")
    ] = 0.0


def charged_jobs(tables: Tables) -> pd.DataFrame:
    """Join what searches asked for with the jobs that ran.

    A search is charged once for a job, however often it asks for it; two searches that ask for the same job are both
    charged.

    Args:
        tables: The results.

    Returns:
        One row per search and job, in the order in which the search was told; ``dev`` and ``test`` hold the primary
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
        passes=passes(jobs),
        # stores from before version 4 do not say
        redone_examples=jobs.redone_examples.fillna(0).astype("int64"),
        # nor do those from before version 5
        reused=jobs.reused.eq(True),
    )
    once = requests.sort_values([*SEARCH, "position"]).drop_duplicates([*SEARCH, "job_id"])
    return once.merge(known, on="job_id", validate="many_to_one")


def passes(jobs: Any) -> Any:
    """Return the examples that jobs trained on in passes over the training split.

    Args:
        jobs: Rows of ``jobs`` as a frame, or a single row as a mapping.
    """
    return jobs["train_examples"] / jobs["task_train_size"]


def cumulated_costs(jobs: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Sum up costs from row to row.

    Args:
        jobs: Rows of :func:`charged_jobs`.
        by: Columns of which every combination is summed up by itself.

    Returns:
        For each row what it and those before it cost: ``examples``, ``epochs``, ``flops`` and ``device_seconds``.
    """
    costs = jobs.assign(epochs=jobs.passes, examples=jobs.train_examples)
    columns = ["examples", "epochs", "flops", "device_seconds"]
    return (costs.groupby(list(by))[columns] if by else costs[columns]).cumsum()


def search_costs(charged: pd.DataFrame, ended: pd.DataFrame) -> pd.DataFrame:
    """Compute what every search that has begun cost, retraining aside.

    Args:
        charged: Rows of :func:`charged_jobs`.
        ended: Rows of ``searches``.

    Returns:
        One row per search: model, task, method, seed and the fields of :class:`CostAccount`.
    """
    import pandas as pd

    keys = list(SEARCH)
    jobs: dict[Any, pd.DataFrame] = {key: own[own.kind != "final"] for key, own in charged.groupby(keys)}
    ended = ended.drop_duplicates(keys).set_index(keys)
    ends: dict[Any, Any] = ended[["evaluations", "proposal_seconds"]].to_dict("index")
    none = charged.iloc[:0]
    costs = {key: account(jobs.get(key, none), **ends.get(key, {})) for key in sorted({*jobs, *ends})}
    begun = pd.DataFrame(list(costs), columns=keys)
    return begun.join(pd.DataFrame(list(costs.values()), columns=list(CostAccount.__dataclass_fields__)))


def account(jobs: pd.DataFrame, evaluations: float | None = None, proposal_seconds: float = 0.0) -> CostAccount:
    """Sum up what jobs cost.

    Args:
        jobs: Rows of :func:`charged_jobs`.
        evaluations: Candidates that the method evaluated; None: the candidates among the jobs.
        proposal_seconds: Seconds that the method itself spent deciding.
    """
    if evaluations is None:
        evaluations = float((jobs.kind == "candidate").sum())
    return CostAccount(
        evaluations=float(evaluations),
        jobs=len(jobs),
        examples=float(jobs.train_examples.sum()),
        epochs=float(jobs.passes.sum()),
        steps=float(jobs.steps.sum()),
        flops=float(jobs.flops.sum()),
        device_seconds=float(jobs.device_seconds.sum()),
        wall_seconds=float(jobs.wall_seconds.sum()),
        proposal_seconds=proposal_seconds,
        peak_memory_bytes=int(jobs.peak_memory_bytes.max()) if len(jobs) else 0,
        redone=float(jobs.redone_examples.sum()),
        reused=float(jobs.reused.sum()),
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
