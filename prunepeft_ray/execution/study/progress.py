"""The progress of a study, method by method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class MethodProgress:
    """The progress of a method, over all its searches.

    Args:
        method: Label of the method.
        ended: Number of searches that have ended, including failed ones.
        failed: Number of searches that have failed.
        searches: Number of searches.
        jobs: Number of jobs whose results the method was told.
        running: Number of jobs now running for it.
        best: Best dev metric within the budget so far, by model and task; None where there is none yet.
        epochs: Passes over the training split that its jobs took, including retraining.
        seconds_left: Estimated time left; None if unknown.
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
"""Callback that receives the progress of all methods, about once a second."""
