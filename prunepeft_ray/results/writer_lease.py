"""The writer lease of a run: numbered attempts, each with a single owner that renews its lease with heartbeats."""

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
"""How long an owner on another machine may miss heartbeats before it counts as dead."""
POLL_SECONDS = 0.5

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Record:
    """The content of an attempt's file.

    Args:
        attempt: Number of the attempt.
        token: Distinguishes it from another attempt with the same number.
        owner: The process that owns it.
        started_at: Start time.
        beat: Heartbeat counter, which increases while the owner is alive.
        ended_at: End time; None if it is running or was killed.
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
            raise InputError(f"{file} is damaged ({error}): delete it if no process is working on the run") from error
        except OSError as error:
            raise RunError(f"{file} cannot be read ({error.strerror or error}); fix the folder, then retry") from error

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


class Attempt:
    """A process's exclusive right to write to a run, until another process takes it over.

    Args:
        folder: The run.
        record: The content of the attempt's file.
        on_lost: Called from another thread when the attempt has been taken over.
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
        """Check that this process still owns the attempt.

        Raises:
            RunError: If another process has taken it over.
        """
        if self.lost:
            raise RunError(
                f"{self._folder.path}: this process was unresponsive for too long, and another one has taken over the "
                "run; all finished jobs are safe. Follow the other process, or run "
                f"'prunepeft resume {self._folder.path}' after it has ended"
            )

    def end(self, outcome: str) -> None:
        """Record the outcome if possible; a run remains valid without it."""
        self._stop.set()
        # a heartbeat may hang if a bucket does not respond
        self._thread.join(timeout=RENEW_SECONDS)
        record = replace(self._record, ended_at=_now(), outcome=outcome)
        with suppress(PrunePEFTError):
            if not self.lost:
                write_whole(attempt_file(self._folder, self.number), record.to_bytes(), replace=True)

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            # a folder that does not respond may do so at the next heartbeat
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
            # a bucket without conditional writes may have let two writers start at the same moment
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
    """Become the only process that works on a run.

    The highest number in ``attempts/`` owns the run. Files are only ever created, and the first writer wins: a dead
    owner is succeeded by the process that first creates the next number. This needs no locks, so it works on shared
    folders as well as in buckets.

    Args:
        folder: The run.
        tell: Callback that receives a line when this takes a while.
        on_lost: Called from another thread when another process has taken over the attempt.

    Yields:
        The attempt; it ends with the context.

    Raises:
        InputError: If a live process is working on the run.
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
        # a takeover is the root cause of any other error
        own.check()


def attempt_file(folder: RunFolder, number: int) -> Path:
    """Return the file of an attempt."""
    return folder.attempts / f"{number:06}.json"


def _take(folder: RunFolder, tell: Tell) -> Record:
    """Create the next attempt, once the owner of the last one is known to be gone."""
    number = max((int(name[:-5]) for name in names(folder.attempts) if re.fullmatch(r"\d+\.json", name)), default=0)
    this, token = Process.this(), uuid.uuid4().hex
    while True:
        if number:
            last = Record.read(attempt_file(folder, number))
            # a bucket's response may have been lost and the request retried
            if last.token == token:
                return last
            _check_ended(folder, last, this, tell)
        number += 1
        record = Record(number, token, this, _now())
        if write_whole(attempt_file(folder, number), record.to_bytes(), replace=False):
            return record


def _check_ended(folder: RunFolder, last: Record, this: Process, tell: Tell) -> None:
    """Check that an attempt's owner is gone, by its process or else by its heartbeat.

    No clocks are compared, since those of two machines may differ by hours.
    """
    if last.outcome is not None:
        return
    owner = last.owner
    who = f"process {owner.pid} on {owner.host}"
    dead = owner.is_dead(seen_from=this)
    if dead is None:
        tell(f"{who} has worked here since {last.started_at}: waiting up to {PATIENCE_SECONDS:.0f} s for a heartbeat")
        dead = _is_silent(attempt_file(folder, last.attempt), last)
    if not dead:
        raise InputError(
            f"{who} has been working on {folder.path} since {last.started_at}: wait for it, or stop it and then run "
            f"'prunepeft resume {folder.path}'"
        )


def _is_silent(file: Path, last: Record) -> bool:
    def changed() -> Record | None:
        now = Record.read(file)
        return now if now.outcome is not None or now.beat != last.beat else None

    now = poll(changed, PATIENCE_SECONDS, POLL_SECONDS)
    return now is None or now.outcome is not None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
