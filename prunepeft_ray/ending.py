"""How the process of a command ends: with one line and the right code, whenever a signal comes.

It is imported before anything else and imports next to nothing, so that signals are heard from the first moment on.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from prunepeft_ray.errors import Terminated

LATER_SECONDS = 0.05
PATIENCE_SECONDS = 60.0
"""How long a command may take to tidy up once it was asked to end."""
_SAFE = "finished jobs and checkpoints are safe, 'prunepeft resume DIR' goes on"
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "asked to end"}


def exit_code(number: int) -> int:
    """The exit code of a process that a signal has ended, as shells count: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + number


def asked_to_end(number: int) -> str:
    """What a command says that a signal has ended.

    Args:
        number: The signal.
    """
    return f"{_WORDS[signal.Signals(number)]}; {_SAFE}"


def _nothing() -> None:
    pass


class Ending:
    """Hears the signals of a command's process.

    Until the command begins, a signal ends the process on the spot. From then on the first one is raised as an
    exception, for all that is open to be closed, and the second one ends the process on the spot.

    Attributes:
        hears: Whether this is the process of a command, whose signals are heard here.
        asked: The signal that has asked it to end.
        before_leaving: What must not be left behind even when it ends on the spot.
    """

    def __init__(self) -> None:
        self.hears = False
        self.asked: int | None = None
        self._begun = False
        self._code: int | None = None
        self._said = False
        self._until = 0.0
        self._errors = 2
        self.before_leaving: Callable[[], None] = _nothing

    def hear(self) -> None:
        """Listen from now on, and see to it that nothing runs after the last exit handler.

        The destructors of native libraries race with their threads when the interpreter ends, and may crash.
        """
        if self.hears:
            return
        self.hears = True
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, self._heard)
        # the first to be registered is the last to run
        atexit.register(self._end)

    def begin(self) -> None:
        """Say that the command begins: from now on there may be something to close."""
        if self.hears:
            self._begun = True
            sys.unraisablehook = self._unraisable

    def note(self, number: int) -> None:
        """Take note of a signal that somebody else has heard, and acts upon; a second one ends the process on the spot.

        Args:
            number: The signal.
        """
        if self.hears:
            again, self.asked = self.asked is not None, number
            if again:
                self.leave_as_asked(number)
            self._hush()

    def _hush(self) -> None:
        """Keep for us the standard error that native libraries write to, past all of Python, when others end."""
        with suppress(OSError):
            self._errors = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            sys.stderr = os.fdopen(self._errors, "w", buffering=1, errors="backslashreplace", closefd=False)

    def decide(self, code: int) -> None:
        """Hear no more signals: the line that says how the command ends is about to be said.

        Args:
            code: The exit code.
        """
        self._code = code

    def finish(self, code: int) -> None:
        """End the process, now that all is done and said.

        Args:
            code: The exit code.
        """
        self._code, self._said = code, True
        sys.exit(code)

    def leave(self, message: str, code: int) -> None:
        """End the process on the spot, from whatever thread: say why, and close nothing.

        Args:
            message: The line to say.
            code: The exit code.
        """
        for stream in (1, self._errors):
            if os.isatty(stream):
                # a progress bar has hidden the cursor
                os.write(stream, b"\x1b[?25h")
        with suppress(OSError):
            # past sys.stderr, whose lock the interrupted code may hold
            os.write(self._errors, f"error: {message}\n".encode(errors="backslashreplace"))
        with suppress(Exception):
            self.before_leaving()
        os._exit(code)

    def leave_as_asked(self, number: int) -> None:
        """End the process on the spot, as a signal demands."""
        self.leave(asked_to_end(number), exit_code(number))

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._code is not None and not self._said:
            return
        if self._code:
            os._exit(self._code)
        if number != signal.SIGALRM:
            again, self.asked = self.asked is not None, number
            self._until = time.monotonic() + PATIENCE_SECONDS
            if again or not self._begun or self._code is not None:
                self.leave_as_asked(number)
        assert self.asked is not None
        left = self._until - time.monotonic()
        if left <= 0:
            self.leave_as_asked(self.asked)
        # native modules do not survive an exception while they are imported
        importing = _is_importing(frame)
        signal.setitimer(signal.ITIMER_REAL, LATER_SECONDS if importing else left)
        if not importing:
            raise_for(self.asked)

    def _unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raise a signal's exception again that came where none can be raised, as while an object is deleted."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt | Terminated):
            signal.setitimer(signal.ITIMER_REAL, LATER_SECONDS)
        else:
            sys.__unraisablehook__(unraisable)

    def _end(self) -> None:
        code = 1 if self._code is None else self._code
        # a stream that was closed before the start is None
        for stream in filter(None, (sys.stdout, sys.stderr)):
            try:
                stream.flush()
            except BrokenPipeError:
                continue
            except (OSError, ValueError):
                code = code or 1
        os._exit(code)


def raise_for(number: int) -> None:
    """Raise what a signal stands for.

    Raises:
        KeyboardInterrupt: For SIGINT.
        Terminated: For SIGTERM.
    """
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


ENDING = Ending()
"""That of this process."""
