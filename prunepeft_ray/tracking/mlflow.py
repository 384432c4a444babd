"""MLflow: a run per search, and a nested run per job."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from prunepeft_ray.errors import InputError
from prunepeft_ray.text import error_line
from prunepeft_ray.tracking.records import JOBS_RECEIVED, Job, Outcome, Search, Step
from prunepeft_ray.tracking.tracker import Known, Place

# no telemetry, and no links printed in the middle of JSON output; MLflow reads these variables when imported
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

SEARCH, JOB, RUN, OUTCOME = (f"prunepeft.{name}" for name in ("search", "job", "run_id", "outcome"))
"""Tags of MLflow runs that identify searches, jobs, our run and the logged outcome."""
BATCH = 100
"""Maximum number of parameters that MLflow accepts at once."""
LONGEST = 500
"""Maximum number of characters of a parameter that every version of MLflow's server accepts."""

# both log messages about every new database
logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


def check() -> None:
    """Check that MLflow accepts the user's settings, without contacting a server.

    Raises:
        InputError: If it does not.
    """
    try:
        MlflowClient()
    except MlflowException as error:
        raise InputError(f"tracker 'mlflow': MLFLOW_TRACKING_URI is not usable: {error_line(error)}") from error


class MLflow:
    """Logs to ``MLFLOW_TRACKING_URI``, in the experiment ``MLFLOW_EXPERIMENT_NAME`` or ``prunepeft``.

    What is logged already is queried from MLflow itself, so that it is right for every server. An unfinished MLflow
    run of a job was left by a killed process; it is deleted, and the job is logged again.

    Args:
        place: The run.
    """

    def __init__(self, place: Place) -> None:
        self._client = MlflowClient()
        self._identity = place.identity
        self._name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "prunepeft")
        self._experiment = self._find_experiment()
        self._searches: dict[str, str] = {}
        self._jobs: set[str] = set()
        self._running: set[str] = set()
        for run in self._runs():
            self._recall(run)

    @property
    def where(self) -> str:
        """Name of the experiment."""
        return f"experiment '{self._name}'"

    def begin(self, search: Search) -> Known:
        """Find or create the MLflow run of a search."""
        if search.key in self._searches:
            return self._known(self._searches[search.key])
        tags = {SEARCH: search.key, RUN: self._identity, "run": search.run, **search.tags}
        run_id = self._create(search.name, tags, None)
        self._log_params(run_id, search.config)
        self._client.log_dict(run_id, dict(search.config), "settings.yaml")
        self._searches[search.key] = run_id
        self._running.add(run_id)
        return Known()

    def has_job(self, job: Job) -> bool:
        """Whether there is a finished MLflow run of a job."""
        return job.id in self._jobs

    def log_job(self, job: Job, epochs: Sequence[Step]) -> None:
        """Create an MLflow run for a job, nested in that of its search."""
        parent = self._searches[job.search.key]
        tags = {JOB: job.id, RUN: self._identity, "mlflow.parentRunId": parent, "kind": job.kind, **job.search.tags}
        run_id = self._create(job.label, tags | ({"reason": job.reason} if job.reason else {}), job.started)
        self._log_params(run_id, job.config)
        for step in epochs:
            self._log_metrics(run_id, step)
        self._log_metrics(run_id, Step(epochs[-1].number if epochs else 0, job.finished, job.results))
        self._end(run_id, job.status, job.finished)
        self._jobs.add(job.id)

    def log_step(self, search: Search, step: Step) -> None:
        """Add a step to the MLflow run of a search."""
        run_id = self._searches[search.key]
        if run_id not in self._running:
            self._client.update_run(run_id, status="RUNNING")
            self._running.add(run_id)
        self._log_metrics(run_id, step)

    def log_outcome(self, search: Search, outcome: Outcome) -> None:
        """End the MLflow run of a search."""
        run_id = self._searches[search.key]
        if outcome.architecture is not None:
            self._client.log_dict(run_id, dict(outcome.architecture), "architecture.json")
        self._log_metrics(run_id, Step(outcome.step, outcome.at, outcome.results))
        if outcome.reason:
            self._client.set_tag(run_id, "reason", outcome.reason)
        self._end(run_id, outcome.status, outcome.at)
        self._client.set_tag(run_id, OUTCOME, str(outcome.step))
        self._running.discard(run_id)

    def close(self) -> None:
        """Mark unfinished searches as interrupted."""
        for run_id in self._running:
            self._client.set_terminated(run_id, "KILLED")

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._name)
        experiment: str = self._client.create_experiment(self._name) if found is None else found.experiment_id
        return experiment

    def _runs(self) -> list[Run]:
        """All MLflow runs of this folder."""
        found: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], f"tags.`{RUN}` = '{self._identity}'", page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _recall(self, run: Run) -> None:
        tags, run_id = run.data.tags, run.info.run_id
        if SEARCH in tags:
            self._searches[tags[SEARCH]] = run_id
        elif run.info.status in ("FINISHED", "FAILED"):
            self._jobs.add(tags[JOB])
        else:
            self._client.delete_run(run_id)

    def _known(self, run_id: str) -> Known:
        steps = self._client.get_metric_history(run_id, JOBS_RECEIVED)
        outcome = self._client.get_run(run_id).data.tags.get(OUTCOME, "0")
        return Known(max((step.step for step in steps), default=0), int(outcome))

    def _create(self, name: str, tags: Mapping[str, str], started: datetime | None) -> str:
        begun = None if started is None else _milliseconds(started)
        run_id: str = self._client.create_run(self._experiment, begun, dict(tags), name).info.run_id
        return run_id

    def _end(self, run_id: str, status: str, at: datetime) -> None:
        self._client.set_terminated(run_id, "FINISHED" if status == "done" else "FAILED", _milliseconds(at))

    def _log_params(self, run_id: str, config: Mapping[str, Any]) -> None:
        params = [Param(key, value[:LONGEST]) for key, value in _flat(config).items()]
        for first in range(0, len(params), BATCH):
            self._client.log_batch(run_id, params=params[first : first + BATCH])

    def _log_metrics(self, run_id: str, step: Step) -> None:
        at = _milliseconds(step.at)
        self._client.log_batch(run_id, [Metric(name, value, at, step.number) for name, value in step.values.items()])


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Flatten settings to MLflow parameters: nested keys are joined by dots, and unset ones left out."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{key}.")
        elif value is not None:
            flat[f"{above}{key}"] = str(value)
    return flat
