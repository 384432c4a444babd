"""Counting consecutive failures without progress. Does not import Ray."""

from __future__ import annotations

from pathlib import Path

from prunepeft_ray.execution.job_checkpoint import CHECKPOINT, kept_examples
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.storage.paths import names


class Failures:
    """Counts consecutive failures; the count restarts whenever the run has made progress in between.

    A run has made progress if another job has finished, or a checkpoint of a job is further than before. So a long
    search on machines that fail now and then never gives up, while one that keeps failing at the same place does.

    Args:
        folder: The run.
        limit: Maximum number of consecutive failures to tolerate.
    """

    def __init__(self, folder: RunFolder, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self._folder = folder
        self._furthest: dict[str, int] = {}
        self._finished: set[str] = set()
        self._has_progressed()

    @property
    def too_many(self) -> bool:
        """Whether to give up."""
        return self.count > self.limit

    @property
    def reaction(self) -> str:
        """The reaction to the last failure, in a few words; empty when giving up."""
        return "" if self.too_many else f"restart {self.count} of at most {self.limit}"

    def add(self) -> None:
        """Count a failure."""
        self.count = 1 if self._has_progressed() else self.count + 1

    def _has_progressed(self) -> bool:
        finished = set(ResultsStore(self._folder.results).keys("jobs"))
        further = bool(finished - self._finished)
        self._finished |= finished
        for job_id, examples in _positions(self._folder.checkpoints).items():
            further |= examples > self._furthest.get(job_id, 0)
            self._furthest[job_id] = max(examples, self._furthest.get(job_id, 0))
        return further


def _positions(checkpoints: Path) -> dict[str, int]:
    """Return the number of examples at the checkpoint of each unfinished job, by job id."""
    found = [name for name in names(checkpoints) if name.endswith(CHECKPOINT)]
    return {name[: -len(CHECKPOINT)]: kept_examples(checkpoints / name) for name in found}
