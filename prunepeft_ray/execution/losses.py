"""Telling what happened to workers that were lost; Ray's controller imports this, so torch is not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.train import UserCallback
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

from prunepeft_ray.execution.board import TIMEOUT_SECONDS
from prunepeft_ray.execution.events import Event
from prunepeft_ray.execution.interruptions import BrokenGroupError, StoppedError


class TellLosses(UserCallback):  # type: ignore[misc]
    """Tells which workers were lost, and that the group starts again; runs in Ray's controller.

    Args:
        board: The board's actor handle.
        most: How often the group is started again.
    """

    def __init__(self, board: Any, most: int) -> None:
        self._board = board
        self._most = most
        self._losses = 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Tell what happened to the workers.

        Raises:
            StoppedError: If they were asked to stop: then Ray gives the group up instead of starting it again.
        """
        if self._must_stop():
            raise StoppedError
        self._losses += 1
        self._board.lose.remote(any(is_memory_loss(error) for error in worker_exceptions.values()))
        what = describe_losses(worker_exceptions)
        then = f"starting again ({self._losses} of at most {self._most} times)" if self._losses <= self._most else ""
        self._board.post.remote(Event("lost", "; ".join(part for part in (what, then) if part)))

    def _must_stop(self) -> bool:
        with suppress(RayError):
            return bool(ray.get(self._board.verdict.remote(), timeout=TIMEOUT_SECONDS) == "stop")
        return False


def describe_losses(errors: Mapping[int, Exception]) -> str:
    """Say in a few words what happened to a group: to the workers that others merely waited for, if that is known."""
    causes = {rank: error for rank, error in errors.items() if not lost_connection(error)} or errors
    return "; ".join(describe_loss(rank, error) for rank, error in sorted(causes.items()))


def lost_connection(error: Exception) -> bool:
    """Whether a worker failed because another one of its group was gone."""
    return isinstance(error, RuntimeError) and re.search("onnection (closed|reset) by peer", str(error)) is not None


def is_memory_loss(error: Exception) -> bool:
    """Whether a worker was ended because its node had no memory left."""
    cause = getattr(error, "health_check_failure", error)
    return isinstance(cause, OutOfMemoryError) or "low on memory" in str(cause)


def describe_loss(rank: int, error: Exception) -> str:
    """Say in a few words what happened to a worker."""
    if is_memory_loss(error):
        return f"worker {rank} was ended because its node is low on memory"
    if isinstance(error, WorkerHealthCheckTimeoutError):
        return f"worker {rank} no longer answers"
    if isinstance(error, RayActorError | WorkerHealthCheckFailedError):
        return f"worker {rank} died"
    if isinstance(error, BrokenGroupError):
        return f"worker {rank} left a job that all train together"
    if lost_connection(error):
        return f"worker {rank} lost the connection to another"
    return f"worker {rank} failed: {type(error).__name__}: {last_line(error)}"


def last_line(error: Exception) -> str:
    """Return the last line of an error's message, cut at 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
