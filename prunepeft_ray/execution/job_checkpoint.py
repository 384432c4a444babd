"""Checkpoints of running jobs, in the run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from prunepeft_ray.errors import RunError
from prunepeft_ray.execution.interruptions import StoppedError
from prunepeft_ray.execution.work_meter import WORK, WorkMeter
from prunepeft_ray.storage import write_whole
from prunepeft_ray.storage.paths import is_file, names, read_bytes, remove_file
from prunepeft_ray.text import error_line
from prunepeft_ray.training import DamagedCheckpointError, State, pack, unpack

CHECKPOINT = ".ckpt"
SPLIT = ".split"


@dataclass
class JobKeeper:
    """Saves checkpoints of one job while it trains; implements :class:`~prunepeft_ray.training.Keeper`.

    A full disk does not stop the job: it continues, and checkpoints are saved again once there is space.

    Args:
        job_id: Id of the job.
        folder: Folder for the job's files.
        seconds: Time between two checkpoints.
        stop_wanted: Whether the job has been asked to stop.
        tell: Callback that receives messages for the user.
        origin: Digest of everything that decides the job's bits here; recorded in checkpoints.

    Attributes:
        is_mixed: Whether the job was resumed from a checkpoint of another origin.
    """

    job_id: str
    folder: Path
    seconds: float
    stop_wanted: Callable[[], bool]
    tell: Callable[[str], None]
    origin: str = ""
    is_mixed: bool = field(default=False, init=False)
    _due: float = field(init=False)
    _meter: WorkMeter = field(init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.seconds
        self._meter = WorkMeter(self.job_id, self.folder)

    @property
    def file(self) -> Path:
        """The checkpoint file of the job."""
        return self.folder / f"{self.job_id}{CHECKPOINT}"

    def load(self) -> State | None:
        """Load the last checkpoint; None if there is none, or it is damaged."""
        try:
            state = unpack(read_bytes(self.file))
            self.is_mixed = state.pop("origin", "") != self.origin
            return state
        except FileNotFoundError:
            pass
        except (DamagedCheckpointError, OSError, RunError) as error:
            self.refuse(error_line(error))
        return None

    def refuse(self, reason: str) -> None:
        """Report that the checkpoint cannot be used."""
        self.is_mixed = False
        self.tell(f"{self.file} cannot be used ({reason}); the job starts from the beginning")

    def begin(self, examples: int) -> None:
        """Report and record where the job starts or resumes."""
        if examples:
            self.tell(f"resuming after {examples:,} examples")
        self._meter.begin(examples)

    def before_step(self, examples: int, batch: int) -> None:
        """Record how far the job will be after the next step."""
        self._meter.advance(examples + batch)

    def leave(self) -> None:
        """Record exactly how far the job is, when it ends early without being killed."""
        self._meter.leave()

    def redone(self, examples: int) -> int:
        """Return how many examples were trained on more than once, summed over all attempts."""
        return max(0, self._meter.spent(examples) - examples)

    def wanted(self) -> bool:
        """Whether it is time to save a checkpoint, or to stop."""
        return time.monotonic() >= self._due or self.stop_wanted()

    def save(self, state: State) -> None:
        """Save a checkpoint in place of the last one.

        Raises:
            StoppedError: If the job has been asked to stop.
        """
        try:
            origin = "mixed" if self.is_mixed else self.origin
            write_whole(self.file, pack(state | {"origin": origin}), replace=True)
        except RunError as error:
            why = error_line(error.__cause__ or error)
            self.tell(f"{self.file} cannot be written ({why}); the job continues without a checkpoint")
        self._due = time.monotonic() + self.seconds
        if self.stop_wanted():
            raise StoppedError

    @property
    def split(self) -> int:
        """Number of parts that each micro-batch is split into: 2 once the job has run out of memory, otherwise 1."""
        return 2 if is_file(self._split_file) else 1

    def note_split(self) -> None:
        """Make the next attempt at the job split its micro-batches in two.

        Raises:
            RunError: If the file cannot be written.
        """
        write_whole(self._split_file, b"2\n", replace=True)

    def forget_split(self) -> None:
        """Let the next attempt at the job begin with whole micro-batches: it may run on a device with more memory."""
        _remove(self._split_file)

    @property
    def _split_file(self) -> Path:
        return self.folder / f"{self.job_id}{SPLIT}"

    def discard(self) -> None:
        """Remove all files of the job, which is finished."""
        _remove(self.file)
        _remove(self._split_file)
        self._meter.discard()


def kept_examples(file: Path) -> int:
    """Return the number of examples at a checkpoint; 0 if there is no usable one."""
    try:
        return int(unpack(read_bytes(file))["progress"]["examples"])
    except (DamagedCheckpointError, OSError, RunError, KeyError, TypeError, ValueError):
        return 0


def discard_all(folder: Path) -> None:
    """Remove checkpoints that workers may have saved after their driver ended."""
    for name in names(folder):
        if name.endswith((CHECKPOINT, SPLIT, WORK)):
            _remove(folder / name)


def _remove(file: Path) -> None:
    with suppress(OSError):
        remove_file(file)
