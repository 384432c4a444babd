"""The jobs of a study as Tune's trials: which one is next, and what becomes of one that fails.

Import it only when Ray is configured.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from prunepeft_ray.errors import PrunePEFTError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.job_checkpoint import CHECKPOINT, kept_examples
from prunepeft_ray.execution.study.dispatcher import StudyRun
from prunepeft_ray.execution.study.workers import Assignment, record_failure
from prunepeft_ray.jobs import Work
from prunepeft_ray.results import ResultsStore, RunContext


@dataclass(frozen=True)
class _Try:
    """A job that is a trial, or will be again."""

    work: Work
    title: str
    context: RunContext
    started: datetime


class JobSearcher(Searcher):  # type: ignore[misc]
    """What Tune asks for the next trial: all methods of a study at once, behind its :class:`StudyRun`.

    A job whose trial ends with an error is tried again here, as another trial. Tune's own way loses jobs: an idle actor
    that has died is noticed when it is given a trial, which Tune then gives up for good.

    Args:
        run: The study.
        store: Where results are.
        stop_wanted: Whether no new job should begin.
        attempts: How often a job is tried without coming further in between.
        checkpoints: Where the states of running jobs are.
        at_once: How many jobs may run now.
        emit: Told of jobs that are tried again.

    Attributes:
        error: Why the study cannot go on.
        said: What workers said last of jobs that ended with an error.
        stop_wanted: See above.
    """

    def __init__(
        self,
        run: StudyRun,
        store: ResultsStore,
        stop_wanted: Callable[[], bool],
        attempts: int,
        checkpoints: Path,
        at_once: Callable[[], int],
        emit: Emit,
    ) -> None:
        super().__init__(metric="done", mode="max")
        self.run = run
        self.error: str | None = None
        self.said: dict[str, str] = {}
        self._store = store
        self.stop_wanted = stop_wanted
        self._attempts = attempts
        self._checkpoints = checkpoints
        self._furthest: dict[str, int] = {}
        self._at_once = at_once
        self._emit = emit
        self._trials: dict[str, _Try] = {}
        self._again: deque[_Try] = deque()
        self._unbegun: set[str] = set()
        self._errors: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether as many jobs run as may."""
        return len(self._trials) >= self._at_once()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next job as a trial's configuration, None to wait, or that there will be no more."""
        if self.error is not None or self.stop_wanted() or self.run.over:
            return str(Searcher.FINISHED)
        if self.is_full:
            return None
        found = self._again.popleft() if self._again else self._next()
        if found is None:
            return None
        self._trials[trial_id] = found
        # people see whose job it is
        titled = Work(found.work.job, found.work.kind, found.title)
        return {"assignment": Assignment(titled, found.context)}

    def _next(self) -> _Try | None:
        if (found := self.run.next()) is None:
            return None
        search, work = found
        return _Try(work, f"{search.cell.title}: {work.label}", search.setting.context, datetime.now(UTC))

    def note_unbegun(self, trial_id: str) -> None:
        """Note that a trial's actor was dead before the trial began: no attempt was made of its job."""
        self._unbegun.add(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the methods what the store has of a trial's job; one that failed too often leaves a failed job."""
        tried = self._trials.pop(trial_id)
        outcome = None if error or result is None else result["outcome"]
        if outcome == "stopped" or (outcome is None and self.stop_wanted()):
            return
        if outcome not in (None, "finished"):
            self.error = outcome
            return
        try:
            self._finish(trial_id, tried)
        except PrunePEFTError as cause:
            # raised here, it would end Tune with words of its own
            self.error = str(cause)

    def _finish(self, trial_id: str, tried: _Try) -> None:
        job_id = tried.work.job.id
        found = self._store.find(job_id)
        if found is None:
            if self._try_again(trial_id, tried):
                return
            found = record_failure(
                self._store, self._checkpoints, tried.context, tried.work, self._reason(job_id), tried.started
            )
        self.run.finish(job_id, found)

    def _try_again(self, trial_id: str, tried: _Try) -> bool:
        """Put a job whose trial has failed in line once more; returns False if it was tried often enough."""
        job_id = tried.work.job.id
        if trial_id not in self._unbegun:
            self._count(job_id)
            count, most = self._errors[job_id], self._attempts - 1
            if count > most:
                return False
            what = f"its worker was lost, or ended with an error; trying again ({count} of at most {most} times)"
            self._emit(Event("message", f"{tried.title}: {what}", tried.work.kind, job_id))
        self._again.append(tried)
        return True

    def _count(self, job_id: str) -> None:
        """Count an error of a job from the last one after which it had come further."""
        kept, before = kept_examples(self._checkpoints / f"{job_id}{CHECKPOINT}"), self._furthest.get(job_id, 0)
        self._errors[job_id] = 1 if kept > before else self._errors[job_id] + 1
        self._furthest[job_id] = max(kept, before)

    def take_back(self) -> None:
        """Take back the jobs of all trials: Tune has ended before them, and they will be trials of another run."""
        self._again.extend(self._trials.values())
        self._trials.clear()
        self._unbegun.clear()

    def _reason(self, job_id: str) -> str:
        lost = f"its worker was lost, or ended with an error, {self._attempts} times"
        return f"{lost}; {self.said[job_id]}" if job_id in self.said else lost

    def __getstate__(self) -> dict[str, Any]:
        """Leave nothing for Tune's own snapshots, which are never read."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the truth about a study is its results store."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""
