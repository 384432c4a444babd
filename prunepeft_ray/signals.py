"""Ending in an orderly way when asked to."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from prunepeft_ray.ending import ENDING, raise_for


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
        raise_for(self.signal or signal.SIGINT)

    def listen(self) -> None:
        """Hear signals, again where a library has put its own handlers in place of ours."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        again, self.signal = self.signal is not None, number
        ENDING.note(number)
        if again:
            self.end()


_listening: StopRequest | None = None


@contextmanager
def catching_signals() -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM instead of ending; a second one ends at once.

    At the end of the block the process ends as it was asked to, whatever else has come of it meanwhile: what fails then
    has mostly been asked to end too. A block within another one has the same request. Only a process's main thread can
    catch signals; elsewhere nothing is caught.

    Raises:
        KeyboardInterrupt: At the end, if SIGINT has come.
        Terminated: Likewise for SIGTERM.
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
            # a handler that was not installed from Python cannot be put back
            if handler is not None:
                signal.signal(number, handler)
    if request.signal is not None:
        request.end()
