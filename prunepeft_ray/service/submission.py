"""What is known of a submitted search job: what was asked for, and what the cluster says of it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from prunepeft_ray.errors import InputError, unknown
from prunepeft_ray.parsing import parse_json

Kind = Literal["search", "study"]
State = Literal["starting", "checking", "waiting", "running", "finished", "failed", "stopped"]
OVER: tuple[State, ...] = ("finished", "failed", "stopped")

UNDECIDED = "waiting for its share of the cluster"
"""What a job waits for between being accepted and being told what it gets."""
METADATA_KEY = "prunepeft"
"""Under this key of a Ray job's metadata lies the submission, as JSON."""
_ID = re.compile(r"[a-z0-9][a-z0-9-]*-[0-9a-f]{4}")
_RAY_SAYS = re.compile(
    r"(\x1b\[\d+m)?\((raylet|gcs_server|autoscaler)|\S+ \S+\s+INFO job_manager|Running entrypoint for "
)
_SUFFIX_DIGITS = 4
_LONGEST_NAME = 40


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

    job: str
    attempt: int
    name: str
    owner: str
    kind: Kind
    output: str
    resumes: bool
    priority: int
    cpus: float | None
    gpus: float | None
    workers: int | None
    track: tuple[str, ...]
    version: str
    submitted_at: str

    @property
    def ray_id(self) -> str:
        """The Ray job's submission id."""
        return f"{self.job}.{self.attempt}"

    def to_json(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Submission:
        """Read what :meth:`to_json` wrote, by this version or a later one.

        Raises:
            ValueError: If it is something else.
        """
        data = parse_json(text)
        try:
            known = {name: data[name] for name in cls.__dataclass_fields__}
        except (KeyError, TypeError) as error:
            raise ValueError(f"no submission: {error}") from error
        return cls(**known | {"track": tuple(known["track"])})

    def again(self, attempt: int, **changes: Any) -> Submission:
        """The next attempt at it, which goes on with the run."""
        return replace(self, attempt=attempt, resumes=True, submitted_at=now(), **changes)


@dataclass(frozen=True)
class Status:
    """What a search job's driver says of itself.

    Args:
        state: ``checking``, ``waiting`` or ``running``; how it ended is said by Ray.
        progress: How far it is, for people.
        best: Best dev metric so far, for people.
        waits_for: What it waits for.
        cpus: CPUs that its workers have.
        gpus: GPUs that they have.
        error: Why it ended, if it failed.
    """

    state: State = "checking"
    progress: str = ""
    best: str = ""
    waits_for: str = ""
    cpus: float = 0
    gpus: float = 0
    error: str = ""

    MARK = "@prunepeft "

    def line(self) -> str:
        """Write it as a line of a log."""
        return self.MARK + json.dumps(asdict(self))

    @classmethod
    def last_in(cls, log: str) -> Status | None:
        """Read the last one in a log; None if there is none."""
        for line in reversed(log.splitlines()):
            if line.startswith(cls.MARK):
                return cls.read(line)
        return None

    @classmethod
    def read(cls, line: str) -> Status | None:
        """Read a line that :meth:`line` wrote; None if it is damaged."""
        try:
            data = parse_json(line[len(cls.MARK) :])
            return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})
        except (ValueError, TypeError):
            return None


def without_status(log: str) -> str:
    """Leave out of a log what is meant for programs, and what Ray says of itself."""
    lines = [line for line in log.splitlines() if not line.startswith(Status.MARK) and not _of_ray(line)]
    return "\n".join(lines) + "\n" if lines else ""


def _of_ray(line: str) -> bool:
    return _RAY_SAYS.match(line) is not None


@dataclass(frozen=True)
class SearchJob:
    """A search job on a cluster.

    Args:
        submission: Its last attempt.
        state: Where it stands.
        started: When its first attempt was submitted.
        ended: When its last attempt ended; None if it has not.
        status: What its driver says.
        exit_code: The driver's exit code, if it has ended by itself.
        message: What Ray says of the end.
    """

    submission: Submission
    state: State
    started: datetime
    ended: datetime | None
    status: Status
    exit_code: int | None = None
    message: str = field(default="", repr=False)

    @property
    def id(self) -> str:
        """Its id."""
        return self.submission.job

    @property
    def over(self) -> bool:
        """Whether its last attempt has ended."""
        return self.state in OVER

    @property
    def error(self) -> str:
        """Why it failed, in one line; empty if it has not."""
        if self.state != "failed":
            return ""
        return self.status.error or _last_words(self.message) or "its driver was lost"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        asked = asdict(self.submission) | {"track": list(self.submission.track)}
        return asked | {
            "id": self.id,
            "state": self.state,
            "started": self.started.isoformat(),
            "ended": self.ended.isoformat() if self.ended else None,
            "progress": self.status.progress,
            "best": self.status.best,
            "waits_for": self.status.waits_for,
            "holds_cpus": self.status.cpus,
            "holds_gpus": self.status.gpus,
            "error": self.error,
        }


def _last_words(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.startswith(Status.MARK)]
    return lines[-1].removeprefix("error: ")[:300] if lines else ""


def submission_of(details: Any) -> Submission | None:
    """The submission that a Ray job carries; None for jobs of others."""
    text = (details.metadata or {}).get(METADATA_KEY)
    try:
        return Submission.from_json(text) if text else None
    except ValueError:
        return None


def new_id(name: str) -> str:
    """Make an id for a search job of that name."""
    return f"{name}-{secrets.token_hex(_SUFFIX_DIGITS // 2)}"


def clean_name(name: str) -> str:
    """Make a name that can be part of an id: small letters, digits and hyphens.

    Raises:
        InputError: If nothing is left of it.
    """
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST_NAME].strip("-")
    if not cleaned:
        raise InputError(f"name '{name}': expected some letters or digits")
    return cleaned


def is_id(text: str) -> bool:
    """Whether a text looks like the id of a search job."""
    return _ID.fullmatch(text) is not None


def pick(ids: Collection[str], wanted: str) -> str:
    """Find the id of a search job by a beginning of it that is no other's, or by the id of an attempt.

    Raises:
        InputError: If there is none, or several.
    """
    whole = re.sub(r"\.\d+$", "", wanted)
    if whole in ids:
        return whole
    found = sorted(job for job in ids if whole and job.startswith(whole))
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"'{wanted}' may be {' or '.join(found)}: give more of it")
    if not ids:
        raise InputError(
            f"there is no search job '{wanted}': the cluster knows of none since its head node started; "
            "'prunepeft resume DIR --address A' goes on with a run from its folder"
        )
    raise unknown("search job", wanted, ids)


def now() -> str:
    """The time now, as text."""
    return datetime.now(UTC).isoformat(timespec="seconds")
