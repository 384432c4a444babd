"""How many examples all attempts at a job have trained on, whatever ends them: what is done twice is counted too."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import suppress
from pathlib import Path

from prunepeft_ray.errors import RunError
from prunepeft_ray.storage import write_whole
from prunepeft_ray.storage.paths import names, read_bytes, remove_file

WORK = ".work"
NOTE_SECONDS = 5.0
"""About how much training a note announces: so much at most is counted too many when an attempt is killed."""


class WorkMeter:
    """Notes how far an attempt at a job comes, ahead of the work, in a file of the attempt's own.

    A kill at any time leaves a note that says where the attempt began and how far it may have come: at most the stretch
    that it had announced last, which is a single step at first and then some seconds of training.

    Args:
        job_id: The job.
        folder: Where the notes are.
    """

    def __init__(self, job_id: str, folder: Path) -> None:
        self._job_id = job_id
        self._folder = folder
        self._begun = self._reached = self._announced = 0
        self._started = 0.0
        self._file = folder

    def begin(self, examples: int) -> None:
        """Begin an attempt after so many examples."""
        self._file = self._folder / f"{self._job_id}.{uuid.uuid4().hex[:8]}{WORK}"
        self._begun = self._reached = self._announced = examples
        self._started = time.monotonic()

    def advance(self, examples: int) -> None:
        """Note that the next step ends after so many examples."""
        done, batch = self._reached - self._begun, examples - self._reached
        self._reached = examples
        if examples > self._announced:
            rate = done / max(time.monotonic() - self._started, 1e-9)
            # not more than has been done: the first steps may have been quick by chance
            self._note(examples + int(min(rate * NOTE_SECONDS, done)) // batch * batch)

    def leave(self) -> None:
        """Note exactly how far the attempt has come; a step under way counts as done."""
        if self._reached > self._begun:
            self._note(self._reached)

    def spent(self, examples: int) -> int:
        """Return how many examples all attempts have trained on, if this one ends after so many."""
        return examples - self._begun + spent_before(self._folder, self._job_id, but=self._file.name)

    def discard(self) -> None:
        """Remove the notes of all attempts at the job."""
        for name in _notes(self._folder, self._job_id):
            with suppress(OSError):
                remove_file(self._folder / name)

    def _note(self, reached: int) -> None:
        self._announced = reached
        # a full disk must not end the job
        with suppress(RunError):
            write_whole(self._file, json.dumps([self._begun, reached]).encode(), replace=True)


def spent_before(folder: Path, job_id: str, but: str = "") -> int:
    """Return how many examples attempts at a job have trained on, by their notes.

    Args:
        folder: Where the notes are.
        job_id: The job.
        but: Name of a note to leave out.
    """
    spent = 0
    for name in _notes(folder, job_id):
        # a note that is damaged or has just been removed says nothing
        with suppress(OSError, ValueError, TypeError):
            begun, reached = json.loads(read_bytes(folder / name)) if name != but else (0, 0)
            spent += max(0, reached - begun)
    return spent


def _notes(folder: Path, job_id: str) -> list[str]:
    return [name for name in names(folder) if name.startswith(f"{job_id}.") and name.endswith(WORK)]
