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

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from prunepeft_ray.errors import PrunePEFTError
from prunepeft_ray.execution.checkpoints import CHECKPOINT, kept_examples
from prunepeft_ray.execution.events import Emit, Event
from prunepeft_ray.execution.study_run import StudyRun
from prunepeft_ray.execution.team import Assignment, record_failure
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


class OldestFirst(FIFOScheduler):  # type: ignore[misc]
    """Gives an actor that falls idle to the trial that was added first.

    Args:
        searcher: Told which trials never began; knows whether to stop, and whether the study has all that it may use.
    """

    def __init__(self, searcher: JobSearcher) -> None:
        super().__init__()
        self.searcher = searcher

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note whether a trial that ends with an error had begun."""
        if trial in tune_controller._resetting_trials:
            self.searcher.note_unbegun(trial.trial_id)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the trial that is to run next, or None; before an end, give up those that have not begun."""
        if self.searcher.stop_wanted():
            for trial in _pending(tune_controller):
                tune_controller.stop_trial(trial)
            return None
        return self.choose(tune_controller)

    def choose(self, tune_controller: Any) -> Any:
        """Return the trial that is to run next, or None."""
        return super().choose_trial_to_run(tune_controller)


class NewestFirst(OldestFirst):
    """Gives an actor that falls idle to the trial that was added last, where there is room for every trial.

    Given to the oldest, as Tune does it, it would go to one whose own actor is just starting, and that one be given up:
    with jobs that are shorter than the start of an actor, a study would never grow.
    """

    def choose(self, tune_controller: Any) -> Any:
        """Return the trial that is to run next, or None; actors that others need more are let go."""
        pending = _pending(tune_controller)
        if not pending and self.searcher.is_full:
            # Tune would keep one for a trial that may not come before another one ends
            tune_controller._cleanup_cached_actors(force_all=True)
        return pending[-1] if pending else None


def _pending(tune_controller: Any) -> list[Any]:
    return [trial for trial in tune_controller.get_trials() if trial.status == "PENDING"]


class ActorManager(RayActorManager):  # type: ignore[misc]
    """Takes an actor whose task ends with an error of Ray's own for one that has died.

    Tune knows few of them and ends at the others: a node low on memory, a lost object or placement group.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = ActorDiedError()
        super()._actor_task_failed(tracked_actor_task, exception)
