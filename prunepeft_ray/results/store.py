"""The results store: one committed record per finished job, and the truth about what is done."""

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
from prunepeft_ray.results.compaction import merge, read_table
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
"""Columns of ``jobs`` that are a result's fields as they are."""
COST_COLUMNS = tuple(field.name for field in fields(Cost))


@dataclass(frozen=True)
class RunContext:
    """What all jobs of a run share.

    Args:
        run_id: Digest of the run's spec.
        method: Search method.
        task: Task, as the user named it.
        model: Backbone, as the user named it.
        seed: Seed of the run.
        budget: Most PEFT parameters of the final architecture.
        backbone_parameters: Parameters of the backbone without its head.
        task_train_size: Examples in the task's training split.
        versions: Versions of Python and packages.
        hardware: The machine.
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

    A job's row in ``jobs`` is written last and makes it finished. Files are written whole or not at all, and the first
    writer wins, so any process may be killed at any time. In a bucket, where nothing can be locked, two writers that
    commit the same job at the same moment may leave the row of one and the other tables of the other; that only a run
    with two owners could do, and what is measured in them is the same but for the seconds.

    Args:
        folder: The folder, on a disk or in a bucket; made when first written to.
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
    ) -> bool:
        """Store a finished job.

        Args:
            context: The run.
            work: What ran.
            result: What came of it.
            started: When it started, with time zone.
            finished: When it ended, with time zone.
            workers: The processes that trained it together, as ``host:process``.

        Returns:
            False if the job had been finished before; its first record stays.

        Raises:
            RunError: If the files cannot be written.
        """
        job_id, architecture = work.job.id, work.job.architecture
        epochs = [{"job_id": job_id, **_plain(epoch)} for epoch in result.epochs]
        filled = [
            {"architecture_id": architecture.id, "job_id": job_id, **_slot(slot), "module": m.type, "size": m.size}
            for slot, m in architecture
        ]
        times = {"started_at": started, "finished_at": finished, "workers": list(workers)}
        with locked(self.folder):
            there = is_file(self._file("jobs", job_id))
            if there and self._is_whole(job_id):
                return False
            # an attempt that was killed may have left rows that belong to no finished job
            for table, rows in (("epochs", epochs), ("scores", _score_rows(job_id, result)), ("architectures", filled)):
                self._write(table, job_id, rows, replace=True)
            # likewise a row in jobs whose other rows somebody has deleted
            return self._write("jobs", job_id, [_job_row(context, work, result) | times], replace=there)

    def commit_decisions(self, context: RunContext, decisions: Sequence[Decision]) -> None:
        """Store a method's decisions, one file per turn or round; one that is stored already stays as it is.

        Raises:
            RunError: If the files cannot be written.
        """
        for name, rows in decision_files(context, decisions).items():
            self._write("decisions", name, rows)

    def commit_request(self, request: Request) -> bool:
        """Store that a search asked for a job and was told its result.

        Returns:
            False if its search had been told at that position before; the first record stays.

        Raises:
            RunError: If the file cannot be written.
        """
        return self._write("requests", request.key, [asdict(request)])

    def commit_search(self, outcome: SearchOutcome) -> None:
        """Store how a search of a study ended; an earlier end of the same search is replaced.

        Raises:
            RunError: If the file cannot be written.
        """
        self._write("searches", outcome.search, [asdict(outcome)], replace=True)

    def forget_searches(self, keys: Iterable[str]) -> None:
        """Take back that searches of a study have ended: a resume is to ask their methods again."""
        for key in keys:
            with suppress(OSError):
                remove_file(self._file("searches", key))

    def forget_requests(self, keys: Iterable[str]) -> None:
        """Forget in which order searches were told the results of these requests; they will be told again."""
        for key in keys:
            with suppress(OSError):
                remove_file(self._file("requests", key))

    def find_search(self, key: str) -> SearchOutcome | None:
        """Return how a search of a study ended, or None if it has not.

        Raises:
            RunError: If the file is damaged.
        """
        if not is_file(self._file("searches", key)):
            return None
        return SearchOutcome(**self._rows("searches", key)[0])

    def find(self, job_id: str) -> TrainResult | None:
        """Return a finished job's result exactly as it was, or None if it has not finished.

        One of whose files some are gone has not finished either: it must run again.

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
            # files of older versions lack some
            cost=Cost(**{name: job[name] for name in COST_COLUMNS if job[name] is not None}),
            micro_batches=job["micro_batches"],
            restarts=job["restarts"],
            status=job["status"],
            reason=job["reason"],
        )

    def read(self, table: str, tell: Tell | None = None) -> pd.DataFrame:
        """Read a table into pandas, of finished jobs alone; maps become dicts.

        Args:
            table: The table.
            tell: Told of damaged files, which are left out; default: the first one is an error.

        Raises:
            InputError: If there is no such table, or a file comes from a newer version.
            RunError: If a file is damaged; the message names it.
        """
        if table not in TABLES:
            raise unknown("table", table, TABLES)
        whole = read_table(self.folder, table, self._finished(table), tell)
        frame: pd.DataFrame = whole.to_pandas(maps_as_pydicts="strict")
        return frame

    def merge(self, growth: float = 0.0) -> int:
        """Merge files of finished jobs where these are many, so that tables are read quickly; nothing else changes.

        Args:
            growth: How many new files it must be at least, as a share of those merged before.

        Returns:
            How many files were merged.

        Raises:
            RunError: If nothing can be written there.
        """
        return sum(merge(self.folder, table, self._finished(table), growth) for table in TABLES if table != "searches")

    def keys(self, table: str) -> list[str]:
        """Return the names of a table's files without reading them; in ``jobs`` the ids of all finished jobs."""
        return [name[: -len(_SUFFIX)] for name in names(self.folder / table) if _is_part(name)]

    def rows(self, table: str, keys: Iterable[str]) -> dict[str, list[Row]]:
        """Read some files of a table as plain rows, by key; those that are not there are left out.

        Raises:
            InputError: If a file comes from a newer version.
            RunError: If a file is damaged.
        """
        keys = tuple(keys)
        found = map_files(_read_if_there, [self._file(table, key) for key in keys])
        return {key: rows for key, rows in zip(keys, found, strict=True) if rows is not None}

    def missing(self, jobs: Iterable[str], **others: Iterable[str]) -> list[str]:
        """Return what is gone of what an answer rests on; looks at names alone, once for each table.

        Args:
            jobs: Ids of finished jobs.
            others: Names of files by further tables.

        Returns:
            The files, as ``table/name``.
        """
        jobs = list(jobs)
        wanted = dict.fromkeys(KEYED_BY_JOB, jobs) | {table: list(keys) for table, keys in others.items()}
        there = {table: set(self.keys(table)) for table, keys in wanted.items() if keys}
        return [f"{table}/{key}" for table, keys in wanted.items() for key in keys if key not in there[table]]

    def _is_whole(self, job_id: str) -> bool:
        return all(is_file(self._file(table, job_id)) for table in KEYED_BY_JOB)

    def _finished(self, table: str) -> dict[str, str]:
        """The files of a table that count, with their stamps; without one if a finished job lacks its file."""
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
    """Whether a file of that name is one of a table's, and not what a killed writer left."""
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
    """The rows of decisions, by the name of the file that they go into."""
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
