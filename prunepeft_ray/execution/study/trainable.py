"""One job as a trial of Ray Tune; import it only when Ray is configured.

The actor that Tune starts is light, and becomes heavy with its first job: while an actor is starting, Tune gives its
trial to any other that falls idle and then gives the new one up, so that slow starts would leave a cluster half empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray import tune

if TYPE_CHECKING:
    from prunepeft_ray.execution.study.workers import Team, Workplace


class JobTrial(tune.Trainable):  # type: ignore[misc]
    """A trial that is one job; its actor, with the backbone in it, is used again for the next one."""

    def setup(self, config: dict[str, Any], place: Workplace | None = None, workers: int = 1) -> None:
        """Note where to work and what on."""
        self._assignment, self._place, self._workers = config["assignment"], place, workers
        self._team: Team | None = None

    def step(self) -> dict[str, Any]:
        """Run the job.

        Raises:
            Exception: What trying again may mend.
        """
        if self._team is None:
            from prunepeft_ray.execution.study.workers import Team

            assert self._place is not None
            self._team = Team(self._place, self._workers)
        return {"done": True, "outcome": self._team.run(self._assignment)}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next job."""
        self._assignment = new_config["assignment"]
        return True
