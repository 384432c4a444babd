"""Counting the examples that all attempts at a job have trained on, including repeated work, however they end."""

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
"""Training time that a note covers in advance; at most this much is overcounted when an attempt is killed."""


class WorkMeter:
    """Records the progress of an attempt at a job, ahead of the work, in a separate file for each attempt.

    An attempt that is killed leaves a note that says where it began and how far it may have come. The note runs ahead
    of the actual progress by a single step at first, and later by some seconds of training.

    Args:
        job_id: Id of the job.
        folder: Folder of the notes.
    """

    def __init__(self, job_id: str, folder: Path) -> None:
        self._job_id = job_id
        self._folder = folder
        self._begun = self._reached = self._announced = 0
        self._started = 0.0
        self._file = folder

    def begin(self, examples: int) -> None:
        """Begin an attempt that resumes after ``examples`` examples, 0 for none."""
        self._file = self._folder / f"{self._job_id}.{uuid.uuid4().hex[:8]}{WORK}"
        self._begun = self._reached = self._announced = examples
        self._started = time.monotonic()

    def advance(self, examples: int) -> None:
        """Record that the next step ends after ``examples`` examples."""
        done, batch = self._reached - self._begun, examples - self._reached
        self._reached = examples
        if examples > self._announced:
            rate = done / max(time.monotonic() - self._started, 1e-9)
            # not further ahead than has been done so far: the first steps may have been quick by chance
            self._note(examples + int(min(rate * NOTE_SECONDS, done)) // batch * batch)

    def leave(self) -> None:
        """Record exactly how far the attempt has come; a step in progress counts as done."""
        if self._reached > self._begun:
            self._note(self._reached)

    def spent(self, examples: int) -> int:
        """Return how many examples all attempts have trained on, if this one ends after ``examples``."""
        return examples - self._begun + spent_before(self._folder, self._job_id, but=self._file.name)

    def discard(self) -> None:
        """Remove the notes of all attempts at the job."""
        for name in _notes(self._folder, self._job_id):
            with suppress(OSError):
                remove_file(self._folder / name)

    def _note(self, reached: int) -> None:
        self._announced = reached
        # a full disk must not stop the job
        with suppress(RunError):
            write_whole(self._file, json.dumps([self._begun, reached]).encode(), replace=True)


def spent_before(folder: Path, job_id: str, but: str = "") -> int:
    """Return how many examples attempts at a job have trained on, according to their notes.

    Args:
        folder: Folder of the notes.
        job_id: Id of the job.
        but: Name of a note to leave out.
    """
    spent = 0
    for name in _notes(folder, job_id):
        # ignore notes that are damaged or have just been removed
        with suppress(OSError, ValueError, TypeError):
            begun, reached = json.loads(read_bytes(folder / name)) if name != but else (0, 0)
            spent += max(0, reached - begun)
    return spent


def _notes(folder: Path, job_id: str) -> list[str]:
    return [name for name in names(folder) if name.startswith(f"{job_id}.") and name.endswith(WORK)]
