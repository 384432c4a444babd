"""Errors that the command line turns into one clear line and an exit code."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

LONGEST_MESSAGE = 2000
"""Most characters of an error's message, whatever it names."""
LONGEST_QUOTE = 200


class PrunePEFTError(Exception):
    """Base of all errors with a message meant for the user.

    The message says what happened, where, and what would be right or what to type next.

    Args:
        message: The message; one of more than :data:`LONGEST_MESSAGE` characters loses its middle.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message, LONGEST_MESSAGE))


class InputError(PrunePEFTError):
    """The user's input is wrong: exit code 2, nothing was started, nothing is lost."""

    exit_code = 2


class RunError(PrunePEFTError):
    """The world failed (disk full, node gone, hub not reachable): exit code 1, a resume may go on."""


class JobError(RunError):
    """A single job cannot be done here, for want of memory; others may."""


class LeftRunningError(PrunePEFTError):
    """Ctrl-C in a command that merely watches: what it watches goes on; exit code 130."""

    exit_code = 130


class Terminated(SystemExit):
    """The process was asked to end (SIGTERM), and has left everything so that a resume goes on: exit code 143."""

    def __init__(self) -> None:
        super().__init__(143)


def unknown(noun: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that is not among the known ones, with the nearest as a suggestion.

    Args:
        noun: What the name stands for, such as ``"criterion"``.
        name: What the user wrote.
        known: The names that would be right.
    """
    # signals are heard only once this module is imported
    import difflib

    name = shortened(name, LONGEST_QUOTE)
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return InputError(f"unknown {noun} '{name}': {hint}known: {', '.join(choices)}")


def quoted(value: object) -> str:
    """Write a value of unknown origin for an error: its ``repr``, of bounded length, depth and time.

    Args:
        value: Any value.
    """
    return shortened(_QUOTE.repr(value), LONGEST_QUOTE)


def shortened(text: str, most: int) -> str:
    """Leave out the middle of a text that is too long.

    Args:
        text: The text.
        most: Most characters that are kept.
    """
    if len(text) <= most:
        return text
    half = (most - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = LONGEST_QUOTE
_QUOTE.maxlevel = 3
