"""Counting failures without progress between them: what a run has kept since decides. Does not import Ray."""

from __future__ import annotations

from pathlib import Path

from prunepeft_ray.execution.job_checkpoint import CHECKPOINT, kept_examples
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.storage.paths import names


class Failures:
    """Counts failures from the last one after which a run had come further.

    A run has come further when a job has finished that had not, or a job's kept state is after more examples than
    before. So a long search on machines that fail now and then never gives up, and one that fails at the same place
    again and again does.

    Args:
        folder: The run.
        most: How many failures in a row are survived.
    """

    def __init__(self, folder: RunFolder, most: int) -> None:
        self.most = most
        self.count = 0
        self._folder = folder
        self._furthest: dict[str, int] = {}
        self._finished: set[str] = set()
        self._has_come_further()

    @property
    def too_many(self) -> bool:
        """Whether it is of no use to try again."""
        return self.count > self.most

    @property
    def then(self) -> str:
        """What is done about the last failure, in a few words; empty when it is given up."""
        return "" if self.too_many else f"starting again ({self.count} of at most {self.most} times)"

    def add(self) -> None:
        """Count a failure."""
        self.count = 1 if self._has_come_further() else self.count + 1

    def _has_come_further(self) -> bool:
        finished = set(ResultsStore(self._folder.results).keys("jobs"))
        further = bool(finished - self._finished)
        self._finished |= finished
        for job_id, examples in _positions(self._folder.checkpoints).items():
            further |= examples > self._furthest.get(job_id, 0)
            self._furthest[job_id] = max(examples, self._furthest.get(job_id, 0))
        return further


def _positions(checkpoints: Path) -> dict[str, int]:
    """After how many examples the states of unfinished jobs were kept, by job."""
    found = [name for name in names(checkpoints) if name.endswith(CHECKPOINT)]
    return {name[: -len(CHECKPOINT)]: kept_examples(checkpoints / name) for name in found}
