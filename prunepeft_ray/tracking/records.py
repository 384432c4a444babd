"""The records of a run for trackers, read from its results store as it grows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import fmean
from typing import Any

from prunepeft_ray.analysis.charges import cumulated_costs, passes
from prunepeft_ray.results import ResultsStore, RunFolder, request_key, search_key

Row = dict[str, Any]

COSTS = {
    "examples": "train_examples",
    "flops": "flops",
    "device_seconds": "device_seconds",
    "wall_seconds": "wall_seconds",
    "peak_memory_bytes": "peak_memory_bytes",
}
"""Costs of a job, and the columns that hold them; epochs are computed."""
JOBS_RECEIVED = "search/jobs"
"""A value that every step of a search has."""


@dataclass(frozen=True)
class Search:
    """A search: a run's only one, or one of a study.

    Args:
        key: Digest that identifies it among the searches of the run.
        name: Name of the run's folder; in a study, method, task, model and seed.
        run: Name of the run's folder.
        tags: Method, task, model and seed.
        config: All settings, resolved.
    """

    key: str
    name: str
    run: str
    tags: Mapping[str, str]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """Values at one step of a series.

    Args:
        number: 1-based step: the epoch of a job, or the number of results that a search has received.
        at: Time of the step.
        values: Values by name.
    """

    number: int
    at: datetime
    values: Mapping[str, float]


@dataclass(frozen=True)
class Job:
    """A finished job.

    Args:
        id: Digest of its content.
        search: The search that it ran for.
        label: Short description for users.
        kind: Its role in the method: warmup, round, candidate or final.
        status: ``"done"``, or ``"failed"`` with a reason.
        reason: Why it failed.
        started: Start of the last attempt.
        finished: Time at which it ended.
        config: What was trained: the settings that identify the job.
        results: Best metrics, test metrics, parameters and cost by name, such as ``dev/accuracy``.
    """

    id: str
    search: Search
    label: str
    kind: str
    status: str
    reason: str
    started: datetime
    finished: datetime
    config: Mapping[str, str | float | None]
    results: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a search, as far as it is known.

    Args:
        step: Number of results that the search had received; a later retraining makes a new outcome.
        at: Time at which the last of these jobs ended.
        status: ``"done"``, or ``"failed"`` with a reason.
        reason: Why it failed.
        results: Parameters, and the means of the retrainings' metrics by name, such as ``test/accuracy``.
        architecture: The chosen architecture as plain data; None if there is none.
    """

    step: int
    at: datetime
    status: str
    reason: str
    results: Mapping[str, float]
    architecture: Mapping[str, Any] | None


@dataclass
class _Series:
    """The results that a search received."""

    received: int = 0
    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Add the result of a job; one that was added before costs nothing."""
        self.received += 1
        self.rows.setdefault(row["job_id"], row)

    def steps(self) -> list[Step]:
        """Cost and best metric of the search after every result."""
        import pandas as pd

        if not self.rows:
            return []
        jobs = pd.DataFrame(list(self.rows.values()))
        sums = cumulated_costs(jobs.assign(passes=passes(jobs))).add_prefix("search/")
        best, found = -math.inf, []
        for number, (row, costs) in enumerate(zip(self.rows.values(), sums.to_dict("records"), strict=True), start=1):
            values = {str(name): float(cost) for name, cost in costs.items()}
            dev = row["metrics"].get(row["metric"]) if row["status"] == "done" and row["evaluate"] == "dev" else None
            if dev is not None:
                values["search/dev"] = dev
                if row["kind"] in ("candidate", "final") and row["parameters"] <= row["budget"]:
                    best = max(best, dev)
            if math.isfinite(best):
                values["search/best_dev"] = best
            found.append(Step(number, row["finished_at"], values | {JOBS_RECEIVED: float(number)}))
        return found


class Records:
    """The searches of a run, their jobs and outcomes; each look reads only what is new.

    Args:
        folder: The run.

    Raises:
        InputError: If its spec is damaged.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._store = ResultsStore(folder.results)
        self.searches = {search.key: search for search in _searches(folder)}
        self._rows: dict[str, Row] = {}
        self._series = {key: _Series() for key in self.searches}

    def look(self) -> None:
        """Read all new results.

        Raises:
            InputError: If a file was written by a newer version.
            RunError: If a file is damaged.
        """
        self._take(key for key in self._store.keys("jobs") if key not in self._rows)
        if not self._folder.is_study:
            return
        asked = [key for key in self._store.keys("requests") if not self._is_received(*key.rsplit("-", 1))]
        for key, (request,) in self._store.rows("requests", asked).items():
            self._receive(key.rsplit("-", 1)[0], request)

    def look_at(self, job_id: str) -> Job | None:
        """Read one job, and the new results of its search; returns None if the job has not finished.

        Raises:
            RunError: If a file is damaged.
        """
        self._take([job_id] if job_id not in self._rows else [])
        if job_id not in self._rows:
            return None
        job = self._job(self._rows[job_id])
        key = job.search.key
        while self._folder.is_study:
            place = request_key(key, self._series[key].received)
            found = self._store.rows("requests", [place])
            if not found:
                break
            self._receive(key, found[place][0])
        return job

    def jobs(self) -> Iterator[Job]:
        """The jobs read so far, in the order in which they ended."""
        return (self._job(row) for row in sorted(self._rows.values(), key=_end))

    def epochs(self, job: Job) -> list[Step]:
        """Read the epochs of a job; times are derived from the seconds of each.

        Raises:
            RunError: If a file is damaged.
        """
        evaluate, at, steps = self._rows[job.id]["evaluate"], job.started, []
        for row in self._store.rows("epochs", [job.id]).get(job.id, []):
            # seconds before a restart are counted, but do not lie between start and end
            at = min(at + timedelta(seconds=row["seconds"]), job.finished)
            values = {"train/loss": row["train_loss"], **_named(evaluate, row["metrics"])}
            steps.append(Step(row["epoch"], at, values))
        return steps

    def steps(self, search: Search) -> list[Step]:
        """Return cost and best metric of a search after every result it has received so far."""
        return self._series[search.key].steps()

    def outcome(self, search: Search) -> Outcome | None:
        """Read the outcome of a search; None if it has not ended.

        Raises:
            InputError: If a file of the run is damaged.
            RunError: Likewise.
        """
        series = self._series[search.key]
        ended = self._ended_in_study(search) if self._folder.is_study else self._ended()
        if ended is None or not series.rows:
            return None
        finals = [self._job(row).results for row in series.rows.values() if row["kind"] == "final"]
        names = dict.fromkeys(name for final in finals for name in final if name.startswith(("dev/", "test/")))
        means = {name: fmean(final[name] for final in finals if name in final) for name in names}
        status, reason, counted, architecture = ended
        at = max(_end(row) for row in series.rows.values())
        return Outcome(len(series.rows), at, status, reason, counted | means, architecture)

    def _ended(self) -> tuple[str, str, dict[str, float], Mapping[str, Any] | None] | None:
        answer = self._folder.read_json("architecture.json")
        return None if answer is None else ("done", "", {"parameters": float(answer["parameters"])}, answer)

    def _ended_in_study(self, search: Search) -> tuple[str, str, dict[str, float], Mapping[str, Any] | None] | None:
        found = self._store.find_search(search.key)
        if found is None:
            return None
        counted = {"parameters": float(found.parameters), "evaluations": float(found.evaluations)}
        return found.status, found.reason, counted, json.loads(found.architecture) if found.architecture else None

    def _take(self, job_ids: Iterator[str] | list[str]) -> None:
        fresh = [row for rows in self._store.rows("jobs", job_ids).values() for row in rows]
        for row in sorted(fresh, key=_end):
            self._rows[row["job_id"]] = row
            # in a study, results are assigned to searches one by one, in the order of their requests
            if not self._folder.is_study:
                self._series[self._search_of(row).key].add(row)

    def _is_received(self, key: str, position: str) -> bool:
        return key not in self._series or int(position) < self._series[key].received

    def _receive(self, key: str, request: Row) -> None:
        self._take([request["job_id"]] if request["job_id"] not in self._rows else [])
        self._series[key].add(self._rows[request["job_id"]])

    def _search_of(self, row: Row) -> Search:
        return self.searches[row["run_id"]] if self._folder.is_study else next(iter(self.searches.values()))

    def _job(self, row: Row) -> Job:
        columns = (
            "job_id",
            "kind",
            "label",
            "job_seed",
            "epochs",
            "train_size",
            "evaluate",
            "slots",
            "architecture_id",
        )
        search = self._search_of(row)
        measured = _named(row["evaluate"], row["metrics"]) | _named("test", row["test_metrics"])
        return Job(
            id=row["job_id"],
            search=search,
            label=row["label"],
            kind=row["kind"],
            status=row["status"],
            reason=row["reason"],
            started=row["started_at"],
            finished=row["finished_at"],
            config={**search.tags, **{name: row[name] for name in columns}},
            results=measured | {"parameters": float(row["parameters"])} | _cost(row),
        )


def _searches(folder: RunFolder) -> Iterator[Search]:
    run = folder.path.absolute().name
    if not folder.is_study:
        spec = folder.spec
        tags = {"method": "prunepeft", "task": spec.task.name, "model": spec.model, "seed": str(spec.seed)}
        yield Search(folder.run_id, run, run, tags, spec.model_dump(mode="json"))
        return
    study = folder.study
    for cell in study.cells():
        label, task, seed = cell.method.label, cell.task.name, cell.seed
        tags = {"method": label, "task": task, "model": cell.model, "seed": str(seed)}
        config = {"method": cell.method.model_dump(mode="json"), **study.search_spec(cell).model_dump(mode="json")}
        config |= {name: getattr(study, name).model_dump(mode="json") for name in ("limits", "candidate")}
        name = f"{label}, {task}, {cell.model}, seed {seed}"
        yield Search(search_key(study.id, label, task, cell.model, seed), name, run, tags, config)


def _named(group: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{group}/{name}": value for name, value in metrics.items()}


def _cost(row: Row) -> dict[str, float]:
    cost = {f"cost/{name}": float(row[column]) for name, column in COSTS.items()}
    return cost | {"cost/epochs": passes(row)}


def _end(row: Row) -> datetime:
    end: datetime = row["finished_at"]
    return end
