"""The submission of a search job, which travels with the Ray job as metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prunepeft_ray.errors import InputError
from prunepeft_ray.results.pool import OFF
from prunepeft_ray.service.gate import (
    Amount,
    JobId,
    Kind,
    Number,
    Place,
    Pool,
    Priority,
    Text,
    Trackers,
    read_json,
)
from prunepeft_ray.storage.paths import is_local, open_path

METADATA_KEY = "prunepeft"
"""Key in the metadata of a Ray job under which the submission is stored, as JSON."""


@dataclass(frozen=True)
class Submission:
    """One attempt at a search job, as submitted.

    Args:
        job: Id of the search job, the same for all attempts, such as ``demo-3f2a``.
        attempt: 1-based number of the attempt.
        name: Name for people.
        owner: User who submitted it.
        kind: ``search`` or ``study``.
        output: The run's folder as the cluster sees it, or its URL.
        resumes: Whether it resumes an existing run.
        priority: Priority on the cluster.
        cpus: Maximum number of CPUs its workers may use at once; None: no limit.
        gpus: Maximum number of GPUs they may use at once; None: no limit.
        workers: Number of workers of a search; None: the default.
        track: Trackers to log to.
        version: Version of the client.
        submitted_at: Time of the submission, in ISO format.
        pool: Pool of finished training jobs as the cluster sees it, or ``off``; None: the cluster's default.
    """

    job: JobId
    attempt: Number
    name: Text
    owner: Text
    kind: Kind
    output: Place
    resumes: bool
    priority: Priority
    cpus: Amount | None
    gpus: Amount | None
    workers: Number | None
    track: Trackers
    version: Text
    submitted_at: Text
    pool: Pool | None = None

    @property
    def ray_id(self) -> str:
        """The Ray job's submission id."""
        return f"{self.job}.{self.attempt}"

    def to_json(self) -> str:
        """Return the submission as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Submission:
        """Read the untrusted output of :meth:`to_json`, of this or a later version.

        Raises:
            ValueError: If it is invalid.
        """
        return read_json(cls, text)

    def again(self, attempt: int, **changes: Any) -> Submission:
        """Return the submission of the next attempt, which resumes the run."""
        return replace(self, attempt=attempt, resumes=True, submitted_at=now(), **changes)


def submission_of(details: Any) -> Submission | None:
    """Return the submission that a Ray job carries; None if it is not a search job."""
    text = (details.metadata or {}).get(METADATA_KEY)
    try:
        return Submission.from_json(text) if text else None
    except ValueError:
        return None


def place_on_cluster(folder: str | Path, is_here: bool) -> str:
    """Return a folder or URL as a cluster sees it.

    Args:
        folder: What the user wrote.
        is_here: Whether the cluster sees the folders of this machine, so that a relative path means one of them.

    Raises:
        InputError: If it is a relative path, which means nothing on the cluster.
    """
    path = open_path(folder)
    if is_local(path) and not path.is_absolute():
        if not is_here:
            raise InputError(f"{folder}: expected an absolute path that all nodes share, or the URL of a bucket")
        path = path.absolute()
    return str(path)


def pool_on_cluster(pool: str | None, is_here: bool) -> str | None:
    """Return the pool of finished training jobs as a cluster sees it; arguments and errors as above."""
    return pool if pool is None or pool == OFF else place_on_cluster(pool, is_here)


def now() -> str:
    """Return the current time in ISO format, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
