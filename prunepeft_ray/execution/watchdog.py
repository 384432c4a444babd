"""Detecting that a worker hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Calls back when a job makes no step for too long.

    It runs in a thread, so it detects a hang in a collective operation, a driver or a file system. A process that is
    suspended as a whole cannot watch itself; Ray's health check does that.

    Args:
        seconds: How long a step may take.
        on_hang: Called once, in the watchdog's thread.
    """

    def __init__(self, seconds: float, on_hang: Callable[[], None]) -> None:
        self._seconds = seconds
        self._on_hang = on_hang
        self._last = time.monotonic()

    def touch(self) -> None:
        """Record that a step was made."""
        self._last = time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while a job runs."""
        self.touch()
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), daemon=True, name="watchdog")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(max(0.0, self._last + self._seconds - time.monotonic())):
            if time.monotonic() - self._last >= self._seconds:
                self._on_hang()
                return
