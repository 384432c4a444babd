"""The progress of a study, method by method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MethodProgress:
    """How far a method has come in all its searches.

    Args:
        method: Its label.
        ended: Searches that have ended.
        failed: Searches that have failed, among them.
        searches: All its searches.
        jobs: Jobs that it was told.
        running: Jobs that run for it now.
        best: Best dev metric within the budget so far, by model and task; None where there is none yet.
        epochs: Passes over the training split that its jobs have cost, retraining included.
        seconds_left: Estimated time until its end; None if that cannot be told.
    """

    method: str
    ended: int
    failed: int
    searches: int
    jobs: int
    running: int
    best: dict[tuple[str, str], float | None]
    epochs: float
    seconds_left: float | None


Watch = Callable[[Sequence[MethodProgress]], None]
"""Shown how far all methods have come, every second or so."""
