"""What a tracker is to us, and all trackers by name."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

from prunepeft_ray.errors import InputError
from prunepeft_ray.registry import Registry
from prunepeft_ray.results import RunFolder
from prunepeft_ray.storage import write_whole
from prunepeft_ray.storage.paths import is_local
from prunepeft_ray.tracking.records import Job, Outcome, Search, Step


@dataclass(frozen=True)
class Known:
    """What a tracker has of a search already.

    Args:
        steps: Number of steps of its series.
        outcome: The step of the outcome that it has; 0 if it has none.
    """

    steps: int = 0
    outcome: int = 0


class Tracker(Protocol):
    """Takes what is new of a run, one piece after another, and knows what it has, also of earlier processes."""

    @property
    def where(self) -> str:
        """Where people find what was logged."""

    def begin(self, search: Search) -> Known:
        """Prepare for a search, of which jobs, steps or an outcome may follow; says what it has already."""

    def has_job(self, job: Job) -> bool:
        """Whether a job was logged, wholly."""

    def log_job(self, job: Job, epochs: Sequence[Step]) -> None:
        """Log a finished job and its epochs."""

    def log_step(self, search: Search, step: Step) -> None:
        """Log the next step of a search's series."""

    def log_outcome(self, search: Search, outcome: Outcome) -> None:
        """Log how a search ended, in the place of what was known of that before."""

    def close(self) -> None:
        """Write down what is left; searches without an outcome are not over."""


@dataclass(frozen=True)
class Place:
    """The run that a tracker logs.

    Args:
        folder: Its folder.
    """

    folder: RunFolder

    @cached_property
    def identity(self) -> str:
        """Eight hexadecimal digits that tell this run from all others, equal settings or not; kept in the folder.

        Raises:
            RunError: If the folder cannot be written.
        """
        write_whole(
            self.folder.path / "tracking/id.json", f'{{"id": "{uuid.uuid4().hex[:8]}"}}\n'.encode(), replace=False
        )
        return cast(str, self.folder.read_json("tracking/id.json")["id"])

    @property
    def local(self) -> Path:
        """The folder on this machine for the logs of trackers that write files: the run's, unless that is a bucket."""
        path = self.folder.path
        return path.absolute() if is_local(path) else Path("tracked").absolute() / f"{path.name}-{self.identity}"


@dataclass(frozen=True)
class TrackerInfo:
    """A tracker that users can name.

    Args:
        title: What people call it.
        package: The package that it needs, of the extra that is called like the tracker.
        build: Makes it for a run.
        check: Makes sure that it is set up; raises an InputError otherwise.
    """

    title: str
    package: str
    build: Callable[[Place], Tracker]
    check: Callable[[], None] = lambda: None


TRACKERS: Registry[TrackerInfo] = Registry("tracker")
"""All trackers."""


def _later(module: str, name: str) -> Callable[..., Any]:
    """Return a function of one of our trackers' files, which is imported when it is called."""
    return lambda *arguments: getattr(import_module(f"prunepeft_ray.tracking.{module}"), name)(*arguments)


TRACKERS.register("tensorboard", TrackerInfo("TensorBoard", "tensorboard", _later("tensorboard", "TensorBoard")))
TRACKERS.register("mlflow", TrackerInfo("MLflow", "mlflow", _later("mlflow", "MLflow"), _later("mlflow", "check")))
TRACKERS.register("wandb", TrackerInfo("Weights & Biases", "wandb", _later("wandb", "Wandb"), _later("wandb", "check")))


def check_tracker(name: str) -> None:
    """Make sure that a tracker is known, installed and set up.

    Raises:
        InputError: If not; the message says what to do.
    """
    info = TRACKERS[name]
    found = find_spec(info.package)
    # a mere folder of that name, as W&B leaves behind, is none
    if found is None or found.origin is None:
        raise InputError(f"tracker '{name}' needs {info.title}: pip install 'prunepeft-ray[{name}]'")
    info.check()
