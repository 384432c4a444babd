"""What is known of a submitted search job: what was asked for, and what the cluster says of it."""

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
"""Under this key of a Ray job's metadata lies the submission, as JSON."""


@dataclass(frozen=True)
class Submission:
    """What was asked for: one attempt at a search job, as it travels with the Ray job.

    Args:
        job: Id of the search job, the same for all attempts, such as ``demo-3f2a``.
        attempt: 1-based number of the attempt.
        name: Name for people.
        owner: Who submitted it.
        kind: ``search``, or ``study`` for a comparison.
        output: The run's folder as the cluster sees it, or its URL.
        resumes: Whether it goes on with a run that is there.
        priority: Its priority on the cluster.
        cpus: Most CPUs that its workers may have at once; None: no limit.
        gpus: Most GPUs likewise.
        workers: Workers of a search; None: the default.
        track: Trackers to log to.
        version: Version of the client.
        submitted_at: When the attempt was submitted.
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
        """Write it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Submission:
        """Read what :meth:`to_json` wrote, by this version or a later one; whoever wrote it is not trusted.

        Raises:
            ValueError: If it is something else.
        """
        return read_json(cls, text)

    def again(self, attempt: int, **changes: Any) -> Submission:
        """The next attempt at it, which goes on with the run."""
        return replace(self, attempt=attempt, resumes=True, submitted_at=now(), **changes)


def submission_of(details: Any) -> Submission | None:
    """The submission that a Ray job carries; None for jobs of others."""
    text = (details.metadata or {}).get(METADATA_KEY)
    try:
        return Submission.from_json(text) if text else None
    except ValueError:
        return None


def now() -> str:
    """The time now, as text."""
    return datetime.now(UTC).isoformat(timespec="seconds")
