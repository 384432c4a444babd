"""A job as a trial of Ray Tune. Import this module only when Ray is configured.

The actor that Tune starts is light, and loads its data with the first job: while an actor is starting, Tune gives its
trial to any actor that becomes idle and then abandons the new one, so slow starts would leave a cluster half empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray import tune

if TYPE_CHECKING:
    from prunepeft_ray.execution.study.workers import SharedState, TrialWorkers


class JobTrial(tune.Trainable):  # type: ignore[misc]
    """A trial that runs one job; its actor, which holds the backbone, is reused for the next trial."""

    def setup(self, config: dict[str, Any], shared: SharedState | None = None, workers: int = 1) -> None:
        """Store the job and what the workers share."""
        self._assignment, self._shared, self._workers = config["assignment"], shared, workers
        self._trial_workers: TrialWorkers | None = None

    def step(self) -> dict[str, Any]:
        """Run the job.

        Raises:
            Exception: Any error that a retry may fix.
        """
        if self._trial_workers is None:
            from prunepeft_ray.execution.study.workers import TrialWorkers

            assert self._shared is not None
            self._trial_workers = TrialWorkers(self._shared, self._workers)
        return {"done": True, "outcome": self._trial_workers.run(self._assignment)}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Accept the next job."""
        self._assignment = new_config["assignment"]
        return True
