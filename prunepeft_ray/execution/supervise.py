"""Following Ray at work from the main thread: news, signals, an orderly stop; import it only when Ray is configured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.exceptions import RayError

from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.mailbox import TIMEOUT_SECONDS, Reader
from prunepeft_ray.signals import StopRequest

POLL_SECONDS = 0.2
STOP_SECONDS = 20
"""How long running jobs may take to keep their state when asked to stop."""


def nowhere() -> Any:
    """A file system in memory: Ray insists on a place for what is reported to it, and nothing ever is."""
    return PyFileSystem(FSSpecHandler(MemoryFileSystem()))


class Fitting(threading.Thread):
    """Something of Ray's at work in a thread of its own, so that the main thread can follow it and be interrupted.

    Args:
        action: What to do.
    """

    def __init__(self, action: Callable[[], Any]) -> None:
        super().__init__(daemon=True, name="fitting")
        self._action = action
        self.error: BaseException | None = None
        self.result: Any = None
        self.start()

    def run(self) -> None:
        """Do it, and keep what comes of it."""
        try:
            self.result = self._action()
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self.error = error


def every(seconds: float, action: Callable[[], None]) -> Callable[[], None]:
    """Return what does something when called, but not again within some seconds."""
    due = 0.0

    def tick() -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + seconds
            action()

    return tick


def _nothing() -> None:
    pass


def _never() -> bool:
    return False


def follow(
    fitting: threading.Thread,
    board: Any,
    emit: Emit,
    request: StopRequest,
    tick: Callable[[], None] = _nothing,
    must_leave: Callable[[], bool] = _never,
) -> bool:
    """Pass the workers' news on until the end; before an early end, let running jobs keep their state.

    Args:
        fitting: What is at work.
        board: The board's actor handle.
        emit: Callback that receives events.
        request: Whether a signal has requested a stop.
        tick: Called several times a second.
        must_leave: Asked as often: whether the workers should end, for others to go on where they stop.

    Returns:
        Whether the workers were asked to end.

    Raises:
        KeyboardInterrupt: On SIGINT, once running jobs have kept their state.
        Terminated: On SIGTERM, likewise.
    """
    reader, asked, told = Reader(board, emit), 0.0, False
    while fitting.is_alive():
        fitting.join(POLL_SECONDS)
        reader.read(TIMEOUT_SECONDS)
        tick()
        if request.signal is not None and not told:
            asked, reader.stopping, told = time.monotonic(), True, True
            emit(Event("message", "stopping: running jobs keep their state; once more to stop at once"))
        if not asked and must_leave():
            asked, reader.stopping = time.monotonic(), True
        if asked:
            # again and again: a board that was started anew has forgotten it
            board.stop.remote()
        if asked and (not reader.running or time.monotonic() - asked > STOP_SECONDS):
            _end_workers(board)
            if told:
                request.end()
    # what was asked for before the end may lack the last news
    if reader.read(TIMEOUT_SECONDS):
        reader.read(TIMEOUT_SECONDS)
    return asked > 0


def _end_workers(board: Any) -> None:
    """End those that wait for others, who have left: they would wait forever."""
    with suppress(RayError):
        for worker in ray.get(board.workers.remote(), timeout=TIMEOUT_SECONDS):
            ray.kill(worker)
