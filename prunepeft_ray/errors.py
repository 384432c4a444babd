"""Errors that the command line turns into one clear line and an exit code."""

from __future__ import annotations

from collections.abc import Iterable


class PrunePEFTError(Exception):
    """Base of all errors with a message meant for the user.

    The message says what happened, where, and what would be right or what to type next.
    """

    exit_code = 1


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

    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return InputError(f"unknown {noun} '{name}': {hint}known: {', '.join(choices)}")
