"""Which trial of a study Ray Tune runs next."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler

from prunepeft_ray.cluster.private_ray.tune import is_resetting, release_idle_actors
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
        if is_resetting(tune_controller, trial):
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
            release_idle_actors(tune_controller)
        return pending[-1] if pending else None


def _pending(tune_controller: Any) -> list[Any]:
    return [trial for trial in tune_controller.get_trials() if trial.status == "PENDING"]
