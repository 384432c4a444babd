"""Events of a running search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Args:
        type: ``"message"``; ``"lost"`` for a message about lost workers, whose jobs no longer run; ``"waiting"`` for
            one that says what a run waits for; ``"accepted"`` once every check has passed; ``"share"`` when the run's
            share of the cluster changes; or a job's ``"start"``, ``"progress"`` or ``"end"``.
        text: The message, the job's label, or its outcome.
        kind: The work's kind: warmup, round, candidate or final.
        job_id: Id of the job the event is about; empty if it is about none.
        done: Examples trained on so far.
        total: Maximum number of examples to train on.
        resources: Resources in the share, by kind.
    """

    type: Literal["message", "lost", "waiting", "accepted", "share", "start", "progress", "end"]
    text: str
    kind: str = ""
    job_id: str = ""
    done: int = 0
    total: int = 0
    resources: Mapping[str, float] | None = None


MESSAGES = ("message", "lost", "waiting")
"""Event types whose text is meant for people."""

Emit = Callable[[Event], None]
"""Callback that receives events; must be quick and must not raise."""


def message_emitter(emit: Emit) -> Callable[[str], None]:
    """Return a callback that takes lines of text and emits each as a message event."""
    return lambda line: emit(Event("message", line))
