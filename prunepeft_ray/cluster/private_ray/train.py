"""Insides of Ray Train; import it only when Ray is configured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend
from ray.train.v2._internal.exceptions import (
    RayTrainError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

__all__ = [
    "LeanTrainer",
    "RayTrainError",
    "WorkerGroupStartupFailedError",
    "WorkerGroupStartupTimeoutError",
    "WorkerHealthCheckFailedError",
    "WorkerHealthCheckTimeoutError",
    "WorkersMeet",
    "carried_errors",
    "is_startup_timeout",
]


class WorkersMeet(TorchConfig):  # type: ignore[misc]
    """Ray Train's settings for torch, but for the process group, whose store would listen at every address."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """The backend that Ray Train sets up in the workers."""
        return _NoProcessGroup


class _NoProcessGroup(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Leave it to the workers."""


class LeanTrainer(TorchTrainer):  # type: ignore[misc]
    """A trainer that does not start an actor for datasets of Ray's, of which there are none: that takes seconds.

    Ray has no setting for this. Should it rename what is overridden here, the actor is back and no more.
    """

    def _create_default_callbacks(self) -> list[Any]:
        return [one for one in super()._create_default_callbacks() if type(one).__name__ != "DatasetsCallback"]


def carried_errors(error: BaseException) -> Iterable[object]:
    """What an error of Ray Train's may carry, of which its attributes are the only way to know."""
    names = ("controller_failure", "health_check_failure", "_base_exc", "cause")
    return [getattr(error, name, None) for name in names] + [*getattr(error, "worker_failures", {}).values()]


def is_startup_timeout(error: BaseException) -> bool:
    """Whether a group waited in vain for room."""
    return isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError)
