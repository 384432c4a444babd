"""Supervising Ray from the main thread: events, signals, an orderly stop. Import it only when Ray is configured."""

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
from prunepeft_ray.execution.interruptions import STOPPING
from prunepeft_ray.execution.mailbox import TIMEOUT_SECONDS, Reader
from prunepeft_ray.signals import StopRequest

POLL_SECONDS = 0.2
STOP_SECONDS = 20
"""How long running jobs may take to save their checkpoints when asked to stop."""


def nowhere() -> Any:
    """An empty file system in memory: Ray requires storage for reported results, but none are ever reported."""
    return PyFileSystem(FSSpecHandler(MemoryFileSystem()))


class BackgroundRun(threading.Thread):
    """A blocking call of Ray in a thread of its own, so that the main thread can follow it and be interrupted.

    Attributes:
        result: What the call returned.
        error: What it raised.
    """

    def __init__(self, action: Callable[[], Any]) -> None:
        super().__init__(daemon=True, name="ray-run")
        self._action = action
        self.error: BaseException | None = None
        self.result: Any = None
        self.start()

    def run(self) -> None:
        """Make the call, and keep its result or error."""
        try:
            self.result = self._action()
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self.error = error


def _nothing() -> None:
    pass


def _never() -> bool:
    return False


def follow(
    background: threading.Thread,
    mailbox: Any,
    emit: Emit,
    request: StopRequest,
    tick: Callable[[], None] = _nothing,
    must_leave: Callable[[], bool] = _never,
) -> bool:
    """Pass the workers' events on until the run ends; on an early stop, let running jobs save their checkpoints.

    Args:
        background: The run, in its thread.
        mailbox: Actor handle of the mailbox.
        emit: Callback that receives events.
        request: Whether a signal has requested a stop.
        tick: Called several times a second.
        must_leave: Called several times a second; whether the workers should stop, so that others can take over.

    Returns:
        Whether the workers were asked to stop.

    Raises:
        KeyboardInterrupt: On SIGINT, once running jobs have saved their checkpoints.
        Terminated: On SIGTERM; likewise.
    """
    reader, asked, told = Reader(mailbox, emit), 0.0, False
    while background.is_alive():
        background.join(POLL_SECONDS)
        reader.read(TIMEOUT_SECONDS)
        tick()
        if request.signal is not None and not told:
            asked, reader.stopping, told = time.monotonic(), True, True
            emit(Event("message", STOPPING))
        if not asked and must_leave():
            asked, reader.stopping = time.monotonic(), True
        if asked:
            # repeatedly: a mailbox that was restarted has forgotten it
            mailbox.stop.remote()
        if asked and (not reader.running or time.monotonic() - asked > STOP_SECONDS):
            _kill_workers(mailbox)
            if told:
                request.interrupt()
    # an answer requested before the run ended may lack the last events
    if reader.read(TIMEOUT_SECONDS):
        reader.read(TIMEOUT_SECONDS)
    return asked > 0


def _kill_workers(mailbox: Any) -> None:
    """Kill workers that are waiting for others that have left: they would wait forever."""
    with suppress(RayError):
        for worker in ray.get(mailbox.workers.remote(), timeout=TIMEOUT_SECONDS):
            ray.kill(worker)
