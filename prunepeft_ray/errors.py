"""Errors that the command line reports as one clear line and an exit code."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

MAX_MESSAGE = 2000
"""Maximum length of an error message."""
MAX_QUOTE = 200


class PrunePEFTError(Exception):
    """Base of all errors with a message meant for the user.

    The message says what happened, where, and what would be right or what to do next.

    Args:
        message: The message; if longer than :data:`MAX_MESSAGE` characters, its middle is elided.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message, MAX_MESSAGE))


class InputError(PrunePEFTError):
    """The user's input is wrong; nothing was started, nothing is lost. Exit code 2."""

    exit_code = 2


class RunError(PrunePEFTError):
    """The environment failed (disk full, node lost, Hub unreachable); a run may be resumed. Exit code 1."""


class JobError(RunError):
    """A single job cannot run here because of lack of memory; others may."""


class LeftRunningError(PrunePEFTError):
    """Ctrl-C in a command that only follows a job, which continues to run. Exit code 130."""

    exit_code = 130


class Terminated(SystemExit):
    """The process received SIGTERM, and stopped in a state from which the run can be resumed. Exit code 143."""

    def __init__(self) -> None:
        super().__init__(143)


def unknown(noun: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for an unknown name, which suggests the closest known one.

    Args:
        noun: The kind of thing, such as ``"criterion"``.
        name: The name that the user wrote.
        known: The valid names.
    """
    # imported here because signals are handled only once this module has been imported
    import difflib

    name = shortened(name, MAX_QUOTE)
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return InputError(f"unknown {noun} '{name}': {hint}known: {', '.join(choices)}")


def quoted(value: object) -> str:
    """Format an untrusted value for an error message: its ``repr``, bounded in length, depth and time."""
    return shortened(_QUOTE.repr(value), MAX_QUOTE)


def shortened(text: str, limit: int) -> str:
    """Elide the middle of a text that is longer than a number of characters."""
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = MAX_QUOTE
_QUOTE.maxlevel = 3
