"""The status of a search job."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from prunepeft_ray.cluster.private_ray.wording import is_log_line
from prunepeft_ray.service.gate import Amount, State, Text, read_json

OVER: tuple[State, ...] = ("finished", "failed", "stopped")


UNDECIDED = "waiting for its share of the cluster"
"""What a job waits for after it was accepted and before it gets an answer from the arbiter."""


@dataclass(frozen=True)
class Status:
    """The status that a search job's driver reports.

    Args:
        state: ``checking``, ``waiting`` or ``running``; the final state comes from Ray.
        progress: Progress, for people.
        best: Best dev metric so far, for people.
        waits_for: What the job is waiting for.
        cpus: Number of CPUs that its workers hold.
        gpus: Number of GPUs that they hold.
        error: Why the run failed; empty if it has not.
    """

    state: State = "checking"
    progress: Text = ""
    best: Text = ""
    waits_for: Text = ""
    cpus: Amount = 0
    gpus: Amount = 0
    error: Text = ""

    MARK = "@prunepeft "

    def line(self) -> str:
        """Return the status as a line for the log."""
        return self.MARK + json.dumps(asdict(self))

    @classmethod
    def last_in(cls, log: str) -> Status | None:
        """Read the last status in a log; None if there is none."""
        for line in reversed(log.splitlines()):
            if line.startswith(cls.MARK):
                return cls.read(line)
        return None

    @classmethod
    def read(cls, line: str) -> Status | None:
        """Read a line written by :meth:`line`; None if it is damaged."""
        try:
            return read_json(cls, line[len(cls.MARK) :])
        except ValueError:
            return None


def without_status(log: str) -> str:
    """Remove status lines and Ray's own messages from a log."""
    lines = [line for line in log.splitlines() if not line.startswith(Status.MARK) and not is_log_line(line)]
    return "\n".join(lines) + "\n" if lines else ""
