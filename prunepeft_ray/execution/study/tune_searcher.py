"""The jobs of a study as trials of Ray Tune: which one runs next, and how failed ones are retried.

Import this module only when Ray is configured.
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
from prunepeft_ray.execution.study.failed_jobs import record_failure
from prunepeft_ray.execution.study.workers import Assignment
from prunepeft_ray.jobs import Work
from prunepeft_ray.results import ResultsStore, RunContext


@dataclass(frozen=True)
class _PendingJob:
    """A job that is running as a trial, or will be retried as one."""

    work: Work
    title: str
    context: RunContext
    started: datetime


class JobSearcher(Searcher):  # type: ignore[misc]
    """Suggests trials to Tune: the jobs of all methods of a study, from its :class:`StudyRun`.

    A job whose trial ends with an error is retried here, as another trial. Tune's own retries lose jobs: it notices
    that an idle actor has died only when it gives a trial to the actor, and then abandons the trial.

    Args:
        run: The study.
        store: The study's results store.
        stop_wanted: Whether no new job should begin.
        attempts: How often a job is tried without progress in between.
        checkpoints: Folder of the checkpoints of running jobs.
        at_once: Returns the number of jobs that may run now.
        emit: Callback that receives events.

    Attributes:
        error: Why the study cannot continue; None if it can.
        said: Last message of the workers about each job that ended with an error, by job id.
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
        self._trials: dict[str, _PendingJob] = {}
        self._retries: deque[_PendingJob] = deque()
        self._unbegun: set[str] = set()
        self._errors: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether as many jobs are running as allowed."""
        return len(self._trials) >= self._at_once()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next job as the configuration of a trial, None to wait, or FINISHED if there will be no more."""
        if self.error is not None or self.stop_wanted() or self.run.over:
            return str(Searcher.FINISHED)
        if self.is_full:
            return None
        found = self._retries.popleft() if self._retries else self._next()
        if found is None:
            return None
        self._trials[trial_id] = found
        # the title names the search, for people
        titled = Work(found.work.job, found.work.kind, found.title)
        return {"assignment": Assignment(titled, found.context)}

    def _next(self) -> _PendingJob | None:
        if (found := self.run.next()) is None:
            return None
        search, work = found
        return _PendingJob(work, f"{search.cell.title}: {work.label}", search.setting.context, datetime.now(UTC))

    def note_unbegun(self, trial_id: str) -> None:
        """Record that a trial's actor was dead before the trial began: its job was not tried."""
        self._unbegun.add(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass the stored result of a trial's job to the methods; a job that failed too often is stored as failed."""
        pending = self._trials.pop(trial_id)
        outcome = None if error or result is None else result["outcome"]
        if outcome == "stopped" or (outcome is None and self.stop_wanted()):
            return
        if outcome not in (None, "finished"):
            self.error = outcome
            return
        try:
            self._finish(trial_id, pending)
        except PrunePEFTError as cause:
            # if it were raised here, Tune would wrap it in its own error
            self.error = str(cause)

    def _finish(self, trial_id: str, pending: _PendingJob) -> None:
        job_id = pending.work.job.id
        found = self._store.find(job_id)
        if found is None:
            if self._retry(trial_id, pending):
                return
            found = record_failure(
                self._store, self._checkpoints, pending.context, pending.work, self._reason(job_id), pending.started
            )
        self.run.finish(job_id, found)

    def _retry(self, trial_id: str, pending: _PendingJob) -> bool:
        """Queue a job whose trial failed for a retry; returns False if it was tried often enough."""
        job_id = pending.work.job.id
        if trial_id not in self._unbegun:
            self._count(job_id)
            count, limit = self._errors[job_id], self._attempts - 1
            if count > limit:
                return False
            what = f"its worker was lost or failed; retry {count} of at most {limit}"
            self._emit(Event("message", f"{pending.title}: {what}", pending.work.kind, job_id))
        self._retries.append(pending)
        return True

    def _count(self, job_id: str) -> None:
        """Count an error of a job; the count restarts if the job has made progress since its last error."""
        kept, before = kept_examples(self._checkpoints / f"{job_id}{CHECKPOINT}"), self._furthest.get(job_id, 0)
        self._errors[job_id] = 1 if kept > before else self._errors[job_id] + 1
        self._furthest[job_id] = max(kept, before)

    def requeue(self) -> None:
        """Queue the jobs of all running trials again: the Tune run has ended, and another one will run them."""
        self._retries.extend(self._trials.values())
        self._trials.clear()
        self._unbegun.clear()

    def _reason(self, job_id: str) -> str:
        lost = f"its worker was lost or failed {self._attempts} times"
        return f"{lost}; {self.said[job_id]}" if job_id in self.said else lost

    def __getstate__(self) -> dict[str, Any]:
        """Exclude everything from Tune's own snapshots, which are never read."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the results store is the only record of a study."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""
