"""How a job ends before its time."""

from __future__ import annotations

from prunepeft_ray.errors import PrunePEFTError


class StoppedError(Exception):
    """A job was stopped because somebody asked for it; its state is kept."""


class BrokenGroupError(Exception):
    """One process of a group has left a job that all train together; the group must start again.

    Args:
        error: What the user should know, if starting again is of no use; None if it is.
    """

    def __init__(self, error: PrunePEFTError | None = None) -> None:
        super().__init__(error)
        self.error = error
