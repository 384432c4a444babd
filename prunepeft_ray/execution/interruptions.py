"""Exceptions that interrupt a job."""

from __future__ import annotations

from prunepeft_ray.errors import PrunePEFTError

STOPPING = "stopping: saving checkpoints; press Ctrl-C again to stop immediately"
"""What the user is told when a signal has requested a stop."""


class StoppedError(Exception):
    """A job was stopped on request; its checkpoint has been saved."""


class BrokenGroupError(Exception):
    """One process has left a job that its group trains together; the group must be restarted.

    Args:
        error: The error to show if a restart would not help; None if it may.
    """

    def __init__(self, error: PrunePEFTError | None = None) -> None:
        super().__init__(error)
        self.error = error
