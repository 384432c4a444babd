"""Waiting for something that can only be looked at again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from prunepeft_ray.errors import RunError

T = TypeVar("T")
PAUSE_SECONDS = 0.1


def poll(condition: Callable[[], T], seconds: float, pause: float = PAUSE_SECONDS) -> T:
    """Ask again and again until the answer is true, or time is up.

    Args:
        condition: Asked at least once, also when time is up already; what it raises is raised.
        seconds: How long.
        pause: Seconds between two questions.

    Returns:
        The last answer.
    """
    until = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < until:
        time.sleep(pause)
    return answer


def wait_until(
    condition: Callable[[], T | None], seconds: float, what: str | Callable[[], str], pause: float = PAUSE_SECONDS
) -> T:
    """Wait until a condition is met.

    Args:
        condition: As for :func:`poll`.
        seconds: How long.
        what: What to say when time is up, or what finds that out then.
        pause: Seconds between two questions.

    Returns:
        The answer that was true.

    Raises:
        RunError: If time is up.
    """
    if answer := poll(condition, seconds, pause):
        return answer
    raise RunError(what if isinstance(what, str) else what())


def every(seconds: float, action: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls an action, but at most once per ``seconds``."""
    due = 0.0

    def tick() -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + seconds
            action()

    return tick
