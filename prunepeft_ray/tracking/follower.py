"""Logging a run: all that is in its store at once, or job by job while it runs."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prunepeft_ray.errors import InputError, PrunePEFTError, RunError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.results import RunFolder
from prunepeft_ray.results.run import SPEC_FILE
from prunepeft_ray.storage import locked
from prunepeft_ray.storage.paths import is_file
from prunepeft_ray.text import one_line
from prunepeft_ray.tracking.records import Job, Records, Search
from prunepeft_ray.tracking.tracker import TRACKERS, Known, Place, Tracker, check_tracker

PATIENCE_SECONDS = 60.0
"""How long a tracker may take for one piece once the run is over, before it is left behind."""

Tell = Callable[[str], None]


class Logbook:
    """Gives a tracker what it does not have yet.

    Args:
        records: The run.
        tracker: The tracker.
        on_piece: Called when a piece has been logged.
    """

    def __init__(self, records: Records, tracker: Tracker, on_piece: Callable[[], None] = lambda: None) -> None:
        self._records = records
        self._tracker = tracker
        self._on_piece = on_piece
        self._known: dict[str, Known] = {}
        self.jobs = 0

    def catch_up(self) -> None:
        """Log all that has come since, and how searches ended."""
        self._records.look()
        for job in self._records.jobs():
            self._log_job(job)
        for search in self._records.searches.values():
            self._log_steps(search)
            self._log_outcome(search)

    def ended(self, job_id: str) -> None:
        """Log a job that has ended, and what its search was told; one that was merely stopped is left for later."""
        job = self._records.look_at(job_id)
        if job is not None:
            self._log_job(job)
            self._log_steps(job.search)

    def _begin(self, search: Search) -> Known:
        if search.key not in self._known:
            self._known[search.key] = self._tracker.begin(search)
        return self._known[search.key]

    def _log_job(self, job: Job) -> None:
        self._begin(job.search)
        if not self._tracker.has_job(job):
            self._tracker.log_job(job, self._records.epochs(job))
            self.jobs += 1
            self._on_piece()

    def _log_steps(self, search: Search) -> None:
        steps = self._records.steps(search)
        if not steps:
            return
        known = self._begin(search)
        for step in steps[known.steps :]:
            self._tracker.log_step(search, step)
            self._on_piece()
        self._known[search.key] = Known(len(steps), known.outcome)

    def _log_outcome(self, search: Search) -> None:
        outcome = self._records.outcome(search)
        if outcome is not None and outcome.step != self._begin(search).outcome:
            self._tracker.log_outcome(search, outcome)
            self._known[search.key] = Known(outcome.step, outcome.step)
            self._on_piece()


@contextmanager
def _logbook(folder: RunFolder, name: str, on_piece: Callable[[], None], tell: Tell) -> Iterator[Logbook]:
    """Open a tracker for a run; at most one process logs a run to it at a time."""
    place = Place(folder)
    busy = f"{folder.path} is being logged to {name} by another process: wait for it, then type 'prunepeft track'"
    with locked(place.local / "tracking" / name, busy=busy):
        tracker = TRACKERS[name].build(place)
        try:
            logbook = Logbook(Records(folder), tracker, on_piece)
            yield logbook
        finally:
            tracker.close()
        tell(f"{name}: {logbook.jobs} job{'' if logbook.jobs == 1 else 's'} logged, {tracker.where}")


def track(folder: RunFolder, to: Sequence[str], tell: Tell = lambda line: None) -> None:
    """Log what a search or a study has so far to trackers; what they have already is not logged again.

    Args:
        folder: The run.
        to: Names of trackers: ``tensorboard``, ``mlflow`` or ``wandb``.
        tell: Told what was logged.

    Raises:
        InputError: If a tracker is unknown, not installed, not set up, or busy with this run.
        RunError: If a tracker fails, or a file of the run is damaged.
    """
    names = _distinct(to)
    for name in names:
        try:
            with _logbook(folder, name, lambda: None, tell) as logbook:
                logbook.catch_up()
        except PrunePEFTError:
            raise
        except Exception as error:
            raise RunError(
                f"{_failure(name, error)}; see to it, then 'prunepeft track {folder.path} --to {name}' logs the rest"
            ) from error


@contextmanager
def tracking(path: Path, to: Sequence[str], emit: Emit) -> Iterator[Emit]:
    """Log a run while it runs: a job when it has ended, and all the rest at the end.

    Every tracker works in a thread of its own; one that fails or hangs costs a line and nothing else.

    Args:
        path: The run's folder; need not be there yet.
        to: Names of trackers.
        emit: Told the news; what was logged and what went wrong comes from other threads.

    Yields:
        What to tell the news instead.

    Raises:
        InputError: If a tracker is unknown or not installed.
    """
    followers = [Follower(path, name, lambda line: emit(Event("message", line))) for name in _distinct(to)]

    def pass_on(event: Event) -> None:
        emit(event)
        if event.type == "end" and event.job_id:
            for follower in followers:
                follower.put(event.job_id)

    complete = True
    try:
        yield pass_on
    except InputError:
        # the folder may be somebody else's
        complete = False
        raise
    finally:
        for follower in followers:
            follower.finish(complete)


class Follower(threading.Thread):
    """Logs a run to one tracker as it is told of jobs that ended.

    Args:
        path: The run's folder.
        name: The tracker.
        tell: Told what came of it.
    """

    def __init__(self, path: Path, name: str, tell: Tell) -> None:
        super().__init__(daemon=True, name=f"prunepeft-{name}")
        self._path = path
        self._tracker = name
        self._tell = tell
        # ids of jobs; at the end whether to log all the rest
        self._queue: queue.SimpleQueue[str | bool] = queue.SimpleQueue()
        self._moved = time.monotonic()
        self.start()

    def put(self, job_id: str) -> None:
        """Say that a job has ended; does not wait."""
        self._queue.put(job_id)

    def finish(self, complete: bool) -> None:
        """Say that the run is over, and wait for as long as the tracker gets on.

        Args:
            complete: Whether to log what is missing.
        """
        self._queue.put(complete)
        self._move()
        while self.is_alive() and time.monotonic() - self._moved < PATIENCE_SECONDS:
            self.join(0.1)
        if self.is_alive():
            self._give_up(f"no answer for {PATIENCE_SECONDS:.0f} s")

    def run(self) -> None:
        """Log until the end, or until something fails."""
        news = self._queue.get()
        try:
            if news is not False and is_file(self._path / SPEC_FILE):
                self._follow(news)
        except PrunePEFTError as error:
            self._give_up(one_line(error))
        except Exception as error:  # noqa: BLE001  the search goes on whatever a tracker does
            self._give_up(_failure(self._tracker, error))

    def _follow(self, news: str | bool) -> None:
        with _logbook(RunFolder(self._path), self._tracker, self._move, self._tell) as logbook:
            # what there was before, and what the first news is about
            logbook.catch_up()
            while isinstance(news, str):
                news = self._queue.get()
                if isinstance(news, str):
                    logbook.ended(news)
                elif news:
                    logbook.catch_up()

    def _move(self) -> None:
        self._moved = time.monotonic()

    def _give_up(self, why: str) -> None:
        self._tell(
            f"warning: logging to {self._tracker} is off: {why}; 'prunepeft track {self._path} --to {self._tracker}' "
            "logs the rest later"
        )


def _distinct(names: Sequence[str]) -> list[str]:
    """Each name once, all of them of trackers that can be used."""
    for name in names:
        check_tracker(name)
    return list(dict.fromkeys(names))


def _failure(name: str, error: Exception) -> str:
    return f"{name}: {type(error).__name__}: {one_line(error)}"
