"""The submission of a search job, which travels with the Ray job as metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from prunepeft_ray.service.gate import (
    Amount,
    JobId,
    Kind,
    Number,
    Place,
    Priority,
    Text,
    Trackers,
    read_json,
)

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


def now() -> str:
    """Return the current time in ISO format, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
