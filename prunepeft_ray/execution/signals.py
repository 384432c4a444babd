"""Ending in an orderly way when asked to."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from prunepeft_ray.errors import Terminated


class StopRequest:
    """Whether SIGINT or SIGTERM has asked this process to end."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def end(self) -> None:
        """End as the signal demands.

        Raises:
            KeyboardInterrupt: For SIGINT.
            Terminated: For SIGTERM.
        """
        raise Terminated if self.signal == signal.SIGTERM else KeyboardInterrupt

    def _note(self, number: int, _frame: FrameType | None) -> None:
        again, self.signal = self.signal is not None, number
        if again:
            self.end()


@contextmanager
def catching_signals() -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM instead of ending; a second one ends at once.

    Only a process's main thread can catch signals; elsewhere nothing is caught.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            # a handler that was not installed from Python cannot be put back
            if handler is not None:
                signal.signal(number, handler)
