"""Insides of Ray Tune; import it only when Ray is configured."""

from __future__ import annotations

from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller as controllers


def is_resetting(tune_controller: Any, trial: Any) -> bool:
    """Whether an actor is being handed to a trial: until that is over, the trial has not begun."""
    return trial in tune_controller._resetting_trials


def release_idle_actors(tune_controller: Any) -> None:
    """End all actors that Tune keeps for trials to come."""
    tune_controller._cleanup_cached_actors(force_all=True)


class ActorManager(RayActorManager):  # type: ignore[misc]
    """Takes an actor whose task ends with an error of Ray's own for one that has died.

    Tune knows few of them and ends at the others: a node low on memory, a lost object or placement group.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = ActorDiedError()
        super()._actor_task_failed(tracked_actor_task, exception)


def use_our_actor_manager() -> None:
    """Have Tune manage its actors by :class:`ActorManager`, from now on in this process."""
    controllers.RayActorManager = ActorManager
