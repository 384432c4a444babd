"""Attempts at search jobs, as a cluster's job server knows them: start one, and read what became of all."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prunepeft_ray.cluster.job_server import JobServer
from prunepeft_ray.errors import InputError
from prunepeft_ray.service.gate import State
from prunepeft_ray.service.package import code_modules
from prunepeft_ray.service.search_job import SearchJob
from prunepeft_ray.service.status import Status
from prunepeft_ray.service.submission import METADATA_KEY, Submission, submission_of

STOP_SECONDS = 60
"""How long a job that is asked to end may take to keep its state."""
STATUS_LINES = 400
_STATES: dict[str, State] = {"PENDING": "starting", "SUCCEEDED": "finished", "FAILED": "failed", "STOPPED": "stopped"}

Attempts = list[tuple[Submission, Any]]
"""The attempts at a search job, with what Ray says of each."""


def start(server: JobServer, submission: Submission, ship_code: bool, package: Path | None = None) -> None:
    """Submit an attempt to a cluster.

    Args:
        server: The cluster.
        submission: What is asked of it.
        ship_code: Send the ``prunepeft_ray`` of this machine along.
        package: The folder with what travels; None for a resume.

    Raises:
        InputError: If the submission could not be read back.
        RunError: If the cluster fails.
    """
    environment: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), "PYTHONUNBUFFERED": "1"}}
    if package is not None:
        environment["working_dir"] = str(package)
    if ship_code:
        environment["py_modules"] = code_modules()
    try:
        # what others, and we ourselves, would not take from the cluster is not sent there
        submission = Submission.from_json(submission.to_json())
    except ValueError as error:
        raise InputError(f"this cannot be submitted: {error}") from error
    asked = submission.to_json()
    entrypoint = f"exec python -P -m prunepeft_ray drive {shlex.quote(asked)}"
    server.submit(submission.ray_id, entrypoint, {METADATA_KEY: asked}, environment)


def read_attempts(server: JobServer) -> dict[str, Attempts]:
    """All attempts at search jobs, by the job, in order."""
    found: dict[str, Attempts] = {}
    for details in server.jobs():
        if (submission := submission_of(details)) is not None:
            found.setdefault(submission.job, []).append((submission, details))
    return {job: sorted(tries, key=lambda one: one[0].attempt) for job, tries in found.items()}


def last_attempt(server: JobServer, attempts: Attempts) -> SearchJob:
    """A search job with its last attempt."""
    submission, details = attempts[-1]
    status = Status.last_in(server.log_end(details, STATUS_LINES)) or Status()
    return SearchJob(
        submission=submission,
        state=_STATES.get(str(details.status.value), status.state),
        started=_time(attempts[0][1].start_time) or datetime.now(UTC),
        ended=_time(details.end_time),
        status=status,
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )


def last_in(attempts: Mapping[str, Attempts], output: str) -> str | None:
    """The search job that was last submitted to a folder."""
    there = {job: tries[-1][0].submitted_at for job, tries in attempts.items() if tries[-1][0].output == output}
    return max(there, key=lambda job: there[job], default=None)


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
