"""Orderly shutdown on SIGINT and SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from prunepeft_ray.ending import ENDING, raise_for


class StopRequest:
    """Whether SIGINT or SIGTERM has asked this process to stop.

    Attributes:
        signal: The last signal received; None so far.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def interrupt(self) -> None:
        """Raise the exception that the received signal stands for.

        Raises:
            KeyboardInterrupt: For SIGINT.
            Terminated: For SIGTERM.
        """
        raise_for(self.signal or signal.SIGINT)

    def listen(self) -> None:
        """Install the signal handlers, again if a library has replaced them."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        again, self.signal = self.signal is not None, number
        ENDING.note(number)
        if again:
            self.interrupt()


_listening: StopRequest | None = None


@contextmanager
def catching_signals() -> Iterator[StopRequest]:
    """Record the first SIGINT or SIGTERM instead of raising it; a second one raises immediately.

    On leaving the block, the exception of the recorded signal is raised. It replaces any error raised in the block,
    since whatever failed there has most likely received the same signal. Nested blocks share one request. Only the main
    thread of a process can catch signals; in other threads nothing is caught.

    Raises:
        KeyboardInterrupt: On leaving the block, if SIGINT was received.
        Terminated: On leaving the block, if SIGTERM was received.
    """
    global _listening
    if threading.current_thread() is not threading.main_thread() or _listening is not None:
        yield _listening if threading.current_thread() is threading.main_thread() and _listening else StopRequest()
        return
    request = _listening = StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    request.listen()
    try:
        yield request
    except Exception:
        if request.signal is None:
            raise
    finally:
        _listening = None
        for number, handler in before.items():
            # a handler that was not installed from Python cannot be restored
            if handler is not None:
                signal.signal(number, handler)
    if request.signal is not None:
        request.interrupt()
