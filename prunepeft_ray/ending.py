"""How the process of a command exits: with one line and the right exit code, whenever a signal arrives.

This module is imported before anything else and imports next to nothing, so that signals are handled from the start.
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
"""How long a command may take to clean up after it was asked to stop."""
SAFE = "finished jobs and checkpoints are safe; resume with 'prunepeft resume DIR'"
"""What to say of a run that ends early."""
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def exit_code(number: int) -> int:
    """The exit code of a process ended by a signal, by the shell's convention: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + number


def signal_message(number: int) -> str:
    """The message of a command that was stopped by a signal."""
    return f"{_WORDS[signal.Signals(number)]}; {SAFE}"


def _nothing() -> None:
    pass


class Ending:
    """Handles the signals of a command's process, and its exit.

    Until the command begins, a signal exits the process immediately. After that, the first signal is raised as an
    exception, so that everything open gets closed, and the second one exits the process immediately.

    Attributes:
        is_installed: Whether this is the process of a command, with its signal handlers installed here.
        asked: The signal that asked the process to stop; None so far.
        before_exit: Cleanup that must happen even on an immediate exit.
    """

    def __init__(self) -> None:
        self.is_installed = False
        self.asked: int | None = None
        self._begun = False
        self._code: int | None = None
        self._said = False
        self._until = 0.0
        self._errors = 2
        self.before_exit: Callable[[], None] = _nothing

    def install(self) -> None:
        """Install the signal handlers, and make sure that nothing runs after the last exit handler.

        The destructors of native libraries race with their threads while the interpreter shuts down, and may crash.
        """
        if self.is_installed:
            return
        self.is_installed = True
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, self._handle)
        # the first to be registered is the last to run
        atexit.register(self._end)

    def begin(self) -> None:
        """Mark the beginning of the command: from now on there may be something to close."""
        if self.is_installed:
            self._begun = True
            sys.unraisablehook = self._unraisable

    def note(self, number: int) -> None:
        """Record a signal that another handler received and acts upon; a second one exits immediately."""
        if self.is_installed:
            again, self.asked = self.asked is not None, number
            if again:
                self.exit_for_signal(number)
            self._silence_native_code()

    def _silence_native_code(self) -> None:
        """Reserve standard error for our own messages: native libraries bypass Python when they write to it."""
        with suppress(OSError):
            self._errors = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            sys.stderr = os.fdopen(self._errors, "w", buffering=1, errors="backslashreplace", closefd=False)

    def decide(self, code: int) -> None:
        """Ignore further signals: the command's last line is about to be printed.

        Args:
            code: The exit code.
        """
        self._code = code

    def finish(self, code: int) -> None:
        """Exit, now that everything is done and printed.

        Args:
            code: The exit code.
        """
        self._code, self._said = code, True
        sys.exit(code)

    def exit_now(self, message: str, code: int) -> None:
        """Exit immediately, from any thread: print why, and close nothing.

        Args:
            message: The line to print.
            code: The exit code.
        """
        for stream in (1, self._errors):
            if os.isatty(stream):
                # a progress bar has hidden the cursor
                os.write(stream, b"\x1b[?25h")
        with suppress(OSError):
            # not through sys.stderr, whose lock the interrupted code may hold
            os.write(self._errors, f"error: {message}\n".encode(errors="backslashreplace"))
        with suppress(Exception):
            self.before_exit()
        os._exit(code)

    def exit_for_signal(self, number: int) -> None:
        """Exit immediately because of a signal."""
        self.exit_now(signal_message(number), exit_code(number))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._code is not None and not self._said:
            return
        if self._code:
            os._exit(self._code)
        if number != signal.SIGALRM:
            again, self.asked = self.asked is not None, number
            self._until = time.monotonic() + PATIENCE_SECONDS
            if again or not self._begun:
                self.exit_for_signal(number)
        assert self.asked is not None
        left = self._until - time.monotonic()
        # once the command is over, nobody would catch the exception of a signal that came during an import
        if left <= 0 or self._code is not None:
            self.exit_for_signal(self.asked)
        # native modules do not survive an exception during their import
        importing = _is_importing(frame)
        signal.setitimer(signal.ITIMER_REAL, LATER_SECONDS if importing else left)
        if not importing:
            raise_for(self.asked)

    def _unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raise a signal's exception again if it was raised where exceptions are ignored, as in a destructor."""
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
    """Raise the exception that a signal stands for.

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
"""The one instance of this process."""
