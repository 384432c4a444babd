"""One writer per run: numbered attempts, each with an owner that shows that it lives."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prunepeft_ray.errors import InputError, PrunePEFTError, RunError
from prunepeft_ray.parsing import parse_json, read_small
from prunepeft_ray.processes import Process
from prunepeft_ray.results.run import RunFolder
from prunepeft_ray.storage.files import remove_unfinished, write_whole
from prunepeft_ray.storage.paths import is_file, names
from prunepeft_ray.waiting import poll

RENEW_SECONDS = 5.0
PATIENCE_SECONDS = 20.0
"""How long an owner on another machine may be silent before it counts as dead: some beats."""
LOOK_SECONDS = 0.5

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Record:
    """What stands in an attempt's file.

    Args:
        attempt: Its number.
        token: Tells it from an attempt of the same number.
        owner: The process that works.
        started_at: When it began.
        beat: Counts up while the owner lives.
        ended_at: When it ended; None if it has not, or was killed.
        outcome: ``finished``, ``interrupted`` or ``failed: ...``.
    """

    attempt: int
    token: str
    owner: Process
    started_at: str
    beat: int = 0
    ended_at: str | None = None
    outcome: str | None = None

    @classmethod
    def read(cls, file: Path) -> Record:
        """Read an attempt's file.

        Raises:
            InputError: If it is damaged.
            RunError: If it cannot be read.
        """
        try:
            data: dict[str, Any] = parse_json(read_small(file))
            return cls(**data | {"owner": Process(**data["owner"])})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} is damaged ({error}): delete it if nobody works on the run") from error
        except OSError as error:
            raise RunError(
                f"{file} cannot be read ({error.strerror or error}); mend the folder, then try again"
            ) from error

    def to_bytes(self) -> bytes:
        """The file's content."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


class Attempt:
    """A process's right to write into a run, for as long as nobody takes it over.

    Args:
        folder: The run.
        record: What stands in the attempt's file.
        on_lost: Called, from another thread, when it has been taken over.
    """

    def __init__(self, folder: RunFolder, record: Record, on_lost: Callable[[], None]) -> None:
        self.number = record.attempt
        self.lost = False
        self._folder = folder
        self._record = record
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="prunepeft-attempt", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that the attempt is still this process's.

        Raises:
            RunError: If another process has taken it over.
        """
        if self.lost:
            raise RunError(
                f"{self._folder.path}: this process was silent for long, and another one has taken the run over: its "
                f"finished jobs are safe; see there, or type 'prunepeft resume {self._folder.path}' when it has ended"
            )

    def end(self, outcome: str) -> None:
        """Write down what came of it; a run is as good without that line."""
        self._stop.set()
        # a beat may hang in a bucket that does not answer
        self._thread.join(timeout=RENEW_SECONDS)
        record = replace(self._record, ended_at=_now(), outcome=outcome)
        with suppress(PrunePEFTError):
            if not self.lost:
                write_whole(attempt_file(self._folder, self.number), record.to_bytes(), replace=True)

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            # a folder that does not answer may do so at the next beat
            with suppress(PrunePEFTError, OSError):
                self._beat()
                if self.lost:
                    self._on_lost()
                    return

    def _beat(self) -> None:
        file = attempt_file(self._folder, self.number)
        self.lost = (
            is_file(attempt_file(self._folder, self.number + 1))
            or not is_file(file)
            # where a bucket cannot refuse a second writer, two may have begun at the same moment
            or Record.read(file).token != self._record.token
        )
        if not self.lost:
            self._record = replace(self._record, beat=self._record.beat + 1)
            write_whole(file, self._record.to_bytes(), replace=True)


def _ignore(_line: str) -> None:
    pass


def _nothing() -> None:
    pass


@contextmanager
def attempt(folder: RunFolder, tell: Tell = _ignore, on_lost: Callable[[], None] = _nothing) -> Iterator[Attempt]:
    """Be the one process that works on a run.

    The highest number in ``attempts/`` is the owner. Files are created, the first writer wins, and never taken away: a
    dead owner is followed by whoever creates the next number first. This needs no locks, so it works on shared
    folders and in buckets alike.

    Args:
        folder: The run.
        tell: Told what takes long.
        on_lost: Called, from another thread, when another process has taken the attempt over.

    Yields:
        The attempt; it ends with the block.

    Raises:
        InputError: If a living process works on the run.
        RunError: If the folder cannot be written, or the attempt was taken over.
    """
    own = Attempt(folder, _take(folder, tell), on_lost)
    outcome = "interrupted"
    try:
        remove_unfinished(folder.path, attempt_file(folder, own.number))
        yield own
        outcome = "finished"
    except Exception as error:
        outcome = f"failed: {' '.join(str(error).split()) or type(error).__name__}"
        raise
    finally:
        own.end(outcome)
        # whatever happened happened because of that
        own.check()


def attempt_file(folder: RunFolder, number: int) -> Path:
    """The file of an attempt."""
    return folder.attempts / f"{number:06}.json"


def _take(folder: RunFolder, tell: Tell) -> Record:
    """Create the next attempt once the last one's owner is known to be gone."""
    number = max((int(name[:-5]) for name in names(folder.attempts) if re.fullmatch(r"\d+\.json", name)), default=0)
    this, token = Process.this(), uuid.uuid4().hex
    while True:
        if number:
            last = Record.read(attempt_file(folder, number))
            # a bucket's answer may have been lost, and the request sent again
            if last.token == token:
                return last
            _check_ended(folder, last, this, tell)
        number += 1
        record = Record(number, token, this, _now())
        if write_whole(attempt_file(folder, number), record.to_bytes(), replace=False):
            return record


def _check_ended(folder: RunFolder, last: Record, this: Process, tell: Tell) -> None:
    """Make sure that an attempt's owner is gone, by looking at the process or else at its beat.

    No clocks are compared: those of two machines may differ by hours.
    """
    if last.outcome is not None:
        return
    owner = last.owner
    who = f"process {owner.pid} on {owner.host}"
    dead = owner.is_dead(seen_from=this)
    if dead is None:
        tell(f"{who} worked here since {last.started_at}: watching for up to {PATIENCE_SECONDS:.0f} s whether it lives")
        dead = _is_silent(attempt_file(folder, last.attempt), last)
    if not dead:
        raise InputError(
            f"{folder.path} is being written by {who} since {last.started_at}: wait for it, or stop it and then type "
            f"'prunepeft resume {folder.path}'"
        )


def _is_silent(file: Path, last: Record) -> bool:
    def changed() -> Record | None:
        now = Record.read(file)
        return now if now.outcome is not None or now.beat != last.beat else None

    now = poll(changed, PATIENCE_SECONDS, LOOK_SECONDS)
    return now is None or now.outcome is not None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
