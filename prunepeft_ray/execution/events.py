"""What a running search tells those who watch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Event:
    """One piece of news.

    Args:
        type: ``"message"``; ``"lost"`` for a message about lost workers, whose jobs no longer run; or a job's
            ``"start"``, ``"progress"`` or ``"end"``.
        text: The message, the job's label, or what came of it.
        kind: The work's kind: warmup, round, candidate or final.
        job_id: The job.
        done: Examples trained on so far.
        total: Examples to train on, at most.
    """

    type: Literal["message", "lost", "start", "progress", "end"]
    text: str
    kind: str = ""
    job_id: str = ""
    done: int = 0
    total: int = 0


Emit = Callable[[Event], None]
"""Takes an event; must be quick and must not fail."""
