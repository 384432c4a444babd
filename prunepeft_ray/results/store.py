"""The results store: one committed record per finished job, authoritative for what is done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from prunepeft_ray.architecture import Slot
from prunepeft_ray.errors import unknown
from prunepeft_ray.jobs import Cost, Decision, Epoch, TrainResult, Work
from prunepeft_ray.results.compaction import compact, read_table
from prunepeft_ray.results.parquet_file import Tell, encode, read_part
from prunepeft_ray.results.schema import KEYED_BY_JOB, TABLES, arrow_schema
from prunepeft_ray.results.study_records import Request, SearchOutcome
from prunepeft_ray.storage.files import locked, write_whole
from prunepeft_ray.storage.paths import is_file, map_files, names, remove_file, stamps

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
_SUFFIX = ".parquet"

RESULT_COLUMNS = ("parameters", "head_parameters", "best_epoch", "micro_batches", "restarts", "status", "reason")
"""Columns of ``jobs`` that are fields of a result."""
COST_COLUMNS = tuple(field.name for field in fields(Cost))


@dataclass(frozen=True)
class RunContext:
    """What all jobs of a run have in common.

    Args:
        run_id: Digest of the run's spec.
        method: Search method.
        task: Task, as the user named it.
        model: Backbone, as the user named it.
        seed: Seed of the run.
        budget: Maximum number of PEFT parameters of the final architecture.
        backbone_parameters: Number of parameters of the backbone without its head.
        task_train_size: Number of examples in the task's training split.
        versions: Versions of Python and packages.
        hardware: Processor, cores, memory and accelerator.
    """

    run_id: str
    method: str
    task: str
    model: str
    seed: int
    budget: int
    backbone_parameters: int
    task_train_size: int
    versions: Mapping[str, str]
    hardware: Mapping[str, str]


class ResultsStore:
    """Results as Parquet files in a folder, one per table and job.

    A job's row in ``jobs`` is written last and marks it as finished. Files are written atomically and the first writer
    wins, so any process may be killed at any time. In a bucket, which cannot be locked, two writers that commit the
    same job at the same moment may leave one's row and the other's further tables. This requires a run with two owners,
    and their results differ only in times.

    Args:
        folder: The folder, on a disk or in a bucket; created on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def commit(
        self,
        context: RunContext,
        work: Work,
        result: TrainResult,
        started: datetime,
        finished: datetime,
        workers: Sequence[str] = (),
        reused: bool = False,
    ) -> bool:
        """Commit a finished job.

        Args:
            context: The run.
            work: The work item that was run.
            result: Its result.
            started: Start time, with time zone.
            finished: End time, with time zone.
            workers: The processes that trained it together, as ``host:process``.
            reused: Whether the result was read from the pool of finished jobs.

        Returns:
            False if the job had already been committed; the first record is kept.

        Raises:
            RunError: If the files cannot be written.
        """
        job_id, architecture = work.job.id, work.job.architecture
        epochs = [{"job_id": job_id, **_plain(epoch)} for epoch in result.epochs]
        filled = [
            {"architecture_id": architecture.id, "job_id": job_id, **_slot(slot), "module": m.type, "size": m.size}
            for slot, m in architecture
        ]
        times = {"started_at": started, "finished_at": finished, "workers": list(workers), "reused": reused}
        with locked(self.folder):
            there = is_file(self._file("jobs", job_id))
            if there and self._is_whole(job_id):
                return False
            # a killed attempt may have left rows that belong to no finished job
            for table, rows in (("epochs", epochs), ("scores", _score_rows(job_id, result)), ("architectures", filled)):
                self._write(table, job_id, rows, replace=True)
            # likewise a row in jobs whose other rows have been deleted
            return self._write("jobs", job_id, [_job_row(context, work, result) | times], replace=there)

    def commit_decisions(self, context: RunContext, decisions: Sequence[Decision]) -> None:
        """Commit a method's decisions, one file per turn or round; files that exist are kept.

        Raises:
            RunError: If the files cannot be written.
        """
        for name, rows in decision_files(context, decisions).items():
            self._write("decisions", name, rows)

    def commit_request(self, request: Request) -> bool:
        """Commit that a search requested a job and received its result.

        Returns:
            False if there already was a record at that position of the search; the first one is kept.

        Raises:
            RunError: If the file cannot be written.
        """
        return self._write("requests", request.key, [asdict(request)])

    def commit_search(self, outcome: SearchOutcome) -> None:
        """Commit the outcome of a search of a study; an earlier outcome of the same search is replaced.

        Raises:
            RunError: If the file cannot be written.
        """
        self._write("searches", outcome.search, [asdict(outcome)], replace=True)

    def forget_searches(self, keys: Iterable[str]) -> None:
        """Delete the outcomes of searches of a study, so that a resume runs their methods again."""
        for key in keys:
            with suppress(OSError):
                remove_file(self._file("searches", key))

    def forget_requests(self, keys: Iterable[str]) -> None:
        """Delete requests, so that their searches receive the results again."""
        for key in keys:
            with suppress(OSError):
                remove_file(self._file("requests", key))

    def find_search(self, key: str) -> SearchOutcome | None:
        """Return the outcome of a search of a study, or None if it has not finished.

        Raises:
            RunError: If the file is damaged.
        """
        if not is_file(self._file("searches", key)):
            return None
        return SearchOutcome(**self._rows("searches", key)[0])

    def find(self, job_id: str) -> TrainResult | None:
        """Return the result of a finished job exactly as it was committed, or None if it has not finished.

        A job counts as unfinished if any of its files is missing; it must run again.

        Raises:
            RunError: If a file is damaged.
        """
        if not self._is_whole(job_id):
            return None
        job = self._rows("jobs", job_id)[0]
        scores, halves = _read_scores(self._rows("scores", job_id))
        epochs = tuple(
            Epoch(row["epoch"], row["train_loss"], dict(row["metrics"]), row["seconds"])
            for row in self._rows("epochs", job_id)
        )
        return TrainResult(
            parameters=job["parameters"],
            head_parameters=job["head_parameters"],
            epochs=epochs,
            best_epoch=job["best_epoch"],
            metrics=dict(job["metrics"]),
            test=dict(job["test_metrics"]),
            scores=scores,
            halves=halves,
            # files of older versions lack some columns
            cost=Cost(**{name: job[name] for name in COST_COLUMNS if job[name] is not None}),
            micro_batches=job["micro_batches"],
            restarts=job["restarts"],
            status=job["status"],
            reason=job["reason"],
        )

    def read(self, table: str, tell: Tell | None = None) -> pd.DataFrame:
        """Read a table of finished jobs into pandas; maps become dicts.

        Args:
            table: Name of the table.
            tell: Callback that receives damaged files, which are skipped; default: the first one is an error.

        Raises:
            InputError: If there is no such table, or a file was written by a newer version.
            RunError: If a file is damaged; the message names it.
        """
        if table not in TABLES:
            raise unknown("table", table, TABLES)
        whole = read_table(self.folder, table, self._finished(table), tell)
        frame: pd.DataFrame = whole.to_pandas(maps_as_pydicts="strict")
        return frame

    def compact(self, growth: float = 0.0) -> int:
        """Compact the files of finished jobs where there are many, so that tables can be read quickly.

        Args:
            growth: Minimum number of new files, as a fraction of those compacted before.

        Returns:
            The number of files that were compacted.

        Raises:
            RunError: If the folder cannot be written.
        """
        return sum(
            compact(self.folder, table, self._finished(table), growth) for table in TABLES if table != "searches"
        )

    def keys(self, table: str) -> list[str]:
        """Return the names of a table's files without reading them; for ``jobs``, the ids of all finished jobs."""
        return [name[: -len(_SUFFIX)] for name in names(self.folder / table) if _is_part(name)]

    def rows(self, table: str, keys: Iterable[str]) -> dict[str, list[Row]]:
        """Read some files of a table as plain rows, by key; missing ones are skipped.

        Raises:
            InputError: If a file was written by a newer version.
            RunError: If a file is damaged.
        """
        keys = tuple(keys)
        found = map_files(_read_if_there, [self._file(table, key) for key in keys])
        return {key: rows for key, rows in zip(keys, found, strict=True) if rows is not None}

    def missing(self, jobs: Iterable[str], **others: Iterable[str]) -> list[str]:
        """Return which of the files that an answer is based on are missing; lists each table once, and reads nothing.

        Args:
            jobs: Ids of finished jobs.
            others: Names of files of further tables, by table.

        Returns:
            The missing files, as ``table/name``.
        """
        jobs = list(jobs)
        wanted = dict.fromkeys(KEYED_BY_JOB, jobs) | {table: list(keys) for table, keys in others.items()}
        there = {table: set(self.keys(table)) for table, keys in wanted.items() if keys}
        return [f"{table}/{key}" for table, keys in wanted.items() for key in keys if key not in there[table]]

    def _is_whole(self, job_id: str) -> bool:
        return all(is_file(self._file(table, job_id)) for table in KEYED_BY_JOB)

    def _finished(self, table: str) -> dict[str, str]:
        """The files of a table that count, with their stamps; empty stamps for missing files of finished jobs."""
        found = stamps(self.folder / table)
        finished = names(self.folder / "jobs") if table in KEYED_BY_JOB else found
        return {name: found.get(name, "") for name in finished if _is_part(name)}

    def _file(self, table: str, name: str) -> Path:
        return self.folder / table / f"{name}{_SUFFIX}"

    def _write(self, table: str, name: str, rows: list[Row], *, replace: bool = False) -> bool:
        data = encode(pa.Table.from_pylist(rows, schema=arrow_schema(table)))
        return write_whole(self._file(table, name), data, replace=replace)

    def _rows(self, table: str, name: str) -> list[Row]:
        rows: list[Row] = read_part(self._file(table, name)).to_pylist()
        return rows


def _is_part(name: str) -> bool:
    """Whether a file of that name belongs to a table, rather than being the leftover of a killed writer."""
    return name.endswith(_SUFFIX) and not name.startswith(".")


def _read_if_there(file: Path) -> list[Row] | None:
    if not is_file(file):
        return None
    rows: list[Row] = read_part(file).to_pylist(maps_as_pydicts="strict")
    return rows


def _plain(record: Epoch | Decision) -> Row:
    return {key: list(value.items()) if isinstance(value, Mapping) else value for key, value in vars(record).items()}


def _slot(slot: Slot) -> Row:
    return {"slot": str(slot), "layer": slot.layer, "kind": slot.kind}


def decision_files(context: RunContext, decisions: Sequence[Decision]) -> dict[str, list[Row]]:
    """Return the rows of decisions, by the name of the file that they are written to."""
    files = {}
    for (step, index, job_id), group in groupby(decisions, key=lambda d: (d.step, d.index, d.job_id)):
        rows = [{"run_id": context.run_id, **_plain(one), **_slot(Slot.parse(one.slot))} for one in group]
        files[f"{context.run_id}-{step}-{index}-{_digest(rows)}-{job_id}"] = rows
    return files


def _score_rows(job_id: str, result: TrainResult) -> list[Row]:
    rows: list[Row] = []
    for criterion, thetas in result.scores.items():
        for slot, theta in thetas.items():
            even, odd = result.halves.get(criterion, {}).get(slot, (None, None))
            values = {"theta": theta, "theta_even": even, "theta_odd": odd}
            rows.append({"job_id": job_id, "criterion": criterion, **_slot(Slot.parse(slot)), **values})
    return rows


def _read_scores(rows: list[Row]) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, tuple[float, float]]]]:
    scores: dict[str, dict[str, float]] = {}
    halves: dict[str, dict[str, tuple[float, float]]] = {}
    for row in rows:
        scores.setdefault(row["criterion"], {})[row["slot"]] = row["theta"]
        if row["theta_even"] is not None:
            halves.setdefault(row["criterion"], {})[row["slot"]] = (row["theta_even"], row["theta_odd"])
    return scores, halves


def _digest(rows: list[Row]) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:8]


def _job_row(context: RunContext, work: Work, result: TrainResult) -> Row:
    job = work.job
    row = asdict(context) | asdict(result.cost)
    row |= {name: getattr(result, name) for name in RESULT_COLUMNS}
    row |= {
        name: getattr(job, name)
        for name in ("model_fingerprint", "task_fingerprint", "train_size", "evaluate", "metric")
    }
    return row | {
        "job_id": job.id,
        "job_seed": job.seed,
        "kind": work.kind,
        "label": work.label,
        "architecture_id": job.architecture.id,
        "slots": len(job.architecture),
        "epochs": job.training.epochs,
        "epochs_done": len(result.epochs),
        "metrics": list(result.metrics.items()),
        "test_metrics": list(result.test.items()),
        "job_json": json.dumps(job.to_dict(), sort_keys=True),
        "versions": list(context.versions.items()),
        "hardware": list(context.hardware.items()),
    }
