"""Changes to Ray Tune's scheduling and actor management that a study needs."""

from __future__ import annotations

from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError
from ray.tune.schedulers import FIFOScheduler

from prunepeft_ray.execution.study.tune_searcher import JobSearcher


class OldestFirst(FIFOScheduler):  # type: ignore[misc]
    """Gives an idle actor to the trial that was added first.

    Args:
        searcher: Records trials that never began; knows whether to stop, and whether the study uses its whole share.
    """

    def __init__(self, searcher: JobSearcher) -> None:
        super().__init__()
        self.searcher = searcher

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Record whether a trial that ended with an error had begun."""
        if trial in tune_controller._resetting_trials:
            self.searcher.note_unbegun(trial.trial_id)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the trial to run next, or None; on a stop, cancel the trials that have not begun."""
        if self.searcher.stop_wanted():
            for trial in _pending(tune_controller):
                tune_controller.stop_trial(trial)
            return None
        return self.choose(tune_controller)

    def choose(self, tune_controller: Any) -> Any:
        """Return the trial to run next, or None."""
        return super().choose_trial_to_run(tune_controller)


class NewestFirst(OldestFirst):
    """Gives an idle actor to the trial that was added last, where there is room for every trial.

    Tune gives it to the oldest trial, whose own actor may just be starting and is then abandoned: if jobs are shorter
    than the start of an actor, a study would never grow.
    """

    def choose(self, tune_controller: Any) -> Any:
        """Return the trial to run next, or None; releases actors that other runs need more."""
        pending = _pending(tune_controller)
        if not pending and self.searcher.is_full:
            # Tune would keep an actor for a trial that may only come once another one ends
            tune_controller._cleanup_cached_actors(force_all=True)
        return pending[-1] if pending else None


def _pending(tune_controller: Any) -> list[Any]:
    return [trial for trial in tune_controller.get_trials() if trial.status == "PENDING"]


class ActorManager(RayActorManager):  # type: ignore[misc]
    """Treats an actor whose task fails with an error of Ray as one that has died.

    Tune handles few of these errors and aborts on the others, such as a node low on memory, or a lost object or
    placement group.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = ActorDiedError()
        super()._actor_task_failed(tracked_actor_task, exception)
