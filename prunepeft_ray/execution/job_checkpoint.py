"""Keeping the state of running jobs in the run's folder."""

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
from prunepeft_ray.text import one_line
from prunepeft_ray.training import DamagedCheckpointError, State, pack, unpack

CHECKPOINT = ".ckpt"
SPLIT = ".split"


@dataclass
class JobKeeper:
    """Keeps the state of one job in a file while it trains; a :class:`~prunepeft_ray.training.Keeper`.

    A disk that is full does not end the job: it goes on, and its state is kept again as soon as there is room.

    Args:
        job_id: The job.
        folder: Where its file is.
        seconds: Time between two states.
        stop_wanted: Whether somebody wants the job to stop.
        tell: Told what the user should know.
    """

    job_id: str
    folder: Path
    seconds: float
    stop_wanted: Callable[[], bool]
    tell: Callable[[str], None]
    _due: float = field(init=False)
    _meter: WorkMeter = field(init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.seconds
        self._meter = WorkMeter(self.job_id, self.folder)

    @property
    def file(self) -> Path:
        """The file with the job's state."""
        return self.folder / f"{self.job_id}{CHECKPOINT}"

    def load(self) -> State | None:
        """Return the state that was kept last; None if there is none, or it is damaged."""
        try:
            return unpack(read_bytes(self.file))
        except FileNotFoundError:
            pass
        except (DamagedCheckpointError, OSError, RunError) as error:
            self.refuse(one_line(error))
        return None

    def refuse(self, reason: str) -> None:
        """Tell that the state cannot be used."""
        self.tell(f"{self.file} cannot be used ({reason}); the job starts from its beginning")

    def begin(self, examples: int) -> None:
        """Tell where the job goes on, and note it."""
        if examples:
            self.tell(f"goes on after {examples:,} examples")
        self._meter.begin(examples)

    def before_step(self, examples: int, batch: int) -> None:
        """Note how far the job will have come after the next step."""
        self._meter.advance(examples + batch)

    def leave(self) -> None:
        """Note exactly how far the job has come: it ends before its time, and not by a kill."""
        self._meter.leave()

    def redone(self, examples: int) -> int:
        """Return how many examples all attempts together have trained on beyond those of the finished job."""
        return max(0, self._meter.spent(examples) - examples)

    def wanted(self) -> bool:
        """Whether it is time to keep the state, or to stop."""
        return time.monotonic() >= self._due or self.stop_wanted()

    def save(self, state: State) -> None:
        """Keep a state in place of the last one.

        Raises:
            StoppedError: If somebody wants the job to stop.
        """
        try:
            write_whole(self.file, pack(state), replace=True)
        except RunError as error:
            self.tell(f"{self.file} cannot be written ({one_line(error.__cause__ or error)}); the job goes on without")
        self._due = time.monotonic() + self.seconds
        if self.stop_wanted():
            raise StoppedError

    @property
    def split(self) -> int:
        """Parts that the job's micro-batches are cut into: 2 once it has run out of memory, else 1."""
        return 2 if is_file(self._split_file) else 1

    def note_split(self) -> None:
        """Make the next try of the job cut its micro-batches in two.

        Raises:
            RunError: If that cannot be written down.
        """
        write_whole(self._split_file, b"2\n", replace=True)

    def forget_split(self) -> None:
        """Let the next try of the job begin with whole micro-batches: it may run on a device with more memory."""
        _remove(self._split_file)

    @property
    def _split_file(self) -> Path:
        return self.folder / f"{self.job_id}{SPLIT}"

    def discard(self) -> None:
        """Remove what was kept: the job is finished."""
        _remove(self.file)
        _remove(self._split_file)
        self._meter.discard()


def kept_examples(file: Path) -> int:
    """Return after how many examples a state was kept; 0 if there is none that can be used."""
    try:
        return int(unpack(read_bytes(file))["progress"]["examples"])
    except (DamagedCheckpointError, OSError, RunError, KeyError, TypeError, ValueError):
        return 0


def discard_all(folder: Path) -> None:
    """Remove what workers that outlived their driver may have kept of finished jobs."""
    for name in names(folder):
        if name.endswith((CHECKPOINT, SPLIT, WORK)):
            _remove(folder / name)


def _remove(file: Path) -> None:
    with suppress(OSError):
        remove_file(file)
