"""A search job of the service."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from prunepeft_ray.errors import InputError, PrunePEFTError, RunError
from prunepeft_ray.service.gate import State
from prunepeft_ray.service.status import OVER, Status
from prunepeft_ray.service.submission import Submission


@dataclass(frozen=True)
class SearchJob:
    """A search job on a cluster.

    Args:
        submission: The submission of its last attempt.
        state: Current state.
        started: When its first attempt was submitted.
        ended: When its last attempt ended; None if it has not.
        status: The last status printed by its driver.
        exit_code: Exit code of the driver; None if it has not exited by itself.
        message: Ray's message about the end.
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
        """Id of the search job."""
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
        return self.status.error or _last_line(self.message) or "its driver was lost"

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


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.startswith(Status.MARK)]
    return lines[-1].removeprefix("error: ")[:300] if lines else ""


def refusal(job: SearchJob) -> PrunePEFTError:
    """Return the error of a job that ended before it was accepted."""
    if job.exit_code == InputError.exit_code:
        return InputError(job.error)
    if "No module named" in job.error:
        return RunError(
            f"the cluster's 'python' lacks what is needed ({job.error}): use the project's image, or put the "
            "environment that holds prunepeft-ray first on the PATH before 'ray start'; --ship-code sends "
            "prunepeft-ray itself along"
        )
    return RunError(job.error)
