"""The interface of trackers, and all trackers by name."""

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
    """What a tracker already has of a search.

    Args:
        steps: Number of logged steps.
        outcome: Step of the logged outcome; 0 if there is none.
    """

    steps: int = 0
    outcome: int = 0


class Tracker(Protocol):
    """Logs new records of a run one by one, and knows which ones it has, including those of earlier processes."""

    @property
    def where(self) -> str:
        """Where to find what was logged, for users."""

    def begin(self, search: Search) -> Known:
        """Prepare for the jobs, steps and outcome of a search; returns what is logged already."""

    def has_job(self, job: Job) -> bool:
        """Whether a job was logged completely."""

    def log_job(self, job: Job, epochs: Sequence[Step]) -> None:
        """Log a finished job and its epochs."""

    def log_step(self, search: Search, step: Step) -> None:
        """Log the next step of a search."""

    def log_outcome(self, search: Search, outcome: Outcome) -> None:
        """Log the outcome of a search, replacing an earlier one."""

    def close(self) -> None:
        """Flush everything; searches without an outcome are unfinished."""


@dataclass(frozen=True)
class Place:
    """Identity and location of a run that a tracker logs.

    Args:
        folder: The run.
    """

    folder: RunFolder

    @cached_property
    def identity(self) -> str:
        """Eight hexadecimal digits that identify this run, even among runs of equal settings; stored in the folder.

        Raises:
            RunError: If the folder cannot be written.
        """
        write_whole(
            self.folder.path / "tracking/id.json", f'{{"id": "{uuid.uuid4().hex[:8]}"}}\n'.encode(), replace=False
        )
        return cast(str, self.folder.read_json("tracking/id.json")["id"])

    @property
    def local(self) -> Path:
        """Local folder for trackers that write files: that of the run, unless it is in a bucket."""
        path = self.folder.path
        return path.absolute() if is_local(path) else Path("tracked").absolute() / f"{path.name}-{self.identity}"


@dataclass(frozen=True)
class TrackerInfo:
    """A tracker that users can name.

    Args:
        title: Display name.
        package: Package that it needs, installed by the extra of the same name as the tracker.
        build: Creates the tracker for a run.
        check: Raises an InputError unless the tracker is set up.
    """

    title: str
    package: str
    build: Callable[[Place], Tracker]
    check: Callable[[], None] = lambda: None


TRACKERS: Registry[TrackerInfo] = Registry("tracker")
"""All trackers."""


def _later(module: str, name: str) -> Callable[..., Any]:
    """Return a function from one of our tracker modules, which is imported when the function is called."""
    return lambda *arguments: getattr(import_module(f"prunepeft_ray.tracking.{module}"), name)(*arguments)


TRACKERS.register("tensorboard", TrackerInfo("TensorBoard", "tensorboard", _later("tensorboard", "TensorBoard")))
TRACKERS.register("mlflow", TrackerInfo("MLflow", "mlflow", _later("mlflow", "MLflow"), _later("mlflow", "check")))
TRACKERS.register("wandb", TrackerInfo("Weights & Biases", "wandb", _later("wandb", "Wandb"), _later("wandb", "check")))


def check_tracker(name: str) -> None:
    """Check that a tracker is known, installed and set up.

    Raises:
        InputError: If it is not; the message says what to do.
    """
    info = TRACKERS[name]
    found = find_spec(info.package)
    # a folder of that name, such as W&B leaves behind, is not a package
    if found is None or found.origin is None:
        raise InputError(f"tracker '{name}' needs {info.title}: pip install 'prunepeft-ray[{name}]'")
    info.check()
