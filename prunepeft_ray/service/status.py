"""The status of a search job."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from prunepeft_ray.cluster.private_ray.wording import is_log_line
from prunepeft_ray.service.gate import Amount, State, Text, read_json

OVER: tuple[State, ...] = ("finished", "failed", "stopped")


UNDECIDED = "waiting for its share of the cluster"
"""What a job waits for between being accepted and being told what it gets."""


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
    progress: Text = ""
    best: Text = ""
    waits_for: Text = ""
    cpus: Amount = 0
    gpus: Amount = 0
    error: Text = ""

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
            return read_json(cls, line[len(cls.MARK) :])
        except ValueError:
            return None


def without_status(log: str) -> str:
    """Leave out of a log what is meant for programs, and what Ray says of itself."""
    lines = [line for line in log.splitlines() if not line.startswith(Status.MARK) and not is_log_line(line)]
    return "\n".join(lines) + "\n" if lines else ""
