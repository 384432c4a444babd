"""What a running search tells those who watch it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Event:
    """One piece of news.

    Args:
        type: ``"message"``; ``"lost"`` for a message about lost workers, whose jobs no longer run; ``"waiting"`` for
            one about what a run waits for; ``"accepted"`` when all has been checked; ``"share"`` when the resources
            change that a run has; or a job's ``"start"``, ``"progress"`` or ``"end"``.
        text: The message, the job's label, or what came of it.
        kind: The work's kind: warmup, round, candidate or final.
        job_id: The job.
        done: Examples trained on so far.
        total: Examples to train on, at most.
        resources: What a share holds, by kind.
    """

    type: Literal["message", "lost", "waiting", "accepted", "share", "start", "progress", "end"]
    text: str
    kind: str = ""
    job_id: str = ""
    done: int = 0
    total: int = 0
    resources: Mapping[str, float] | None = None


MESSAGES = ("message", "lost", "waiting")
"""Types whose text is for people."""

Emit = Callable[[Event], None]
"""Takes an event; must be quick and must not fail."""


def telling(emit: Emit) -> Callable[[str], None]:
    """Return what takes lines for the user and emits them as messages."""
    return lambda line: emit(Event("message", line))
