"""Logging a run: all results in its store at once, or job by job while it runs."""

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
from prunepeft_ray.text import error_line
from prunepeft_ray.tracking.records import Job, Records, Search
from prunepeft_ray.tracking.tracker import TRACKERS, Known, Place, Tracker, check_tracker

PATIENCE_SECONDS = 60.0
"""How long a tracker may take for one record once the run is over, before it is abandoned."""

Tell = Callable[[str], None]


class Logbook:
    """Logs what a tracker does not have yet.

    Args:
        records: The records of the run.
        tracker: The tracker.
        on_progress: Called after each record that is logged.
    """

    def __init__(self, records: Records, tracker: Tracker, on_progress: Callable[[], None] = lambda: None) -> None:
        self._records = records
        self._tracker = tracker
        self._on_progress = on_progress
        self._known: dict[str, Known] = {}
        self.jobs = 0

    def catch_up(self) -> None:
        """Log everything new, and the outcomes of searches."""
        self._records.look()
        for job in self._records.jobs():
            self._log_job(job)
        for search in self._records.searches.values():
            self._log_steps(search)
            self._log_outcome(search)

    def log_ended(self, job_id: str) -> None:
        """Log a job that has ended, and the new steps of its search; a job that was only stopped is left for later."""
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
            self._on_progress()

    def _log_steps(self, search: Search) -> None:
        steps = self._records.steps(search)
        if not steps:
            return
        known = self._begin(search)
        for step in steps[known.steps :]:
            self._tracker.log_step(search, step)
            self._on_progress()
        self._known[search.key] = Known(len(steps), known.outcome)

    def _log_outcome(self, search: Search) -> None:
        outcome = self._records.outcome(search)
        if outcome is not None and outcome.step != self._begin(search).outcome:
            self._tracker.log_outcome(search, outcome)
            self._known[search.key] = Known(outcome.step, outcome.step)
            self._on_progress()


@contextmanager
def _logbook(folder: RunFolder, name: str, on_progress: Callable[[], None], tell: Tell) -> Iterator[Logbook]:
    """Open a tracker for a run; only one process at a time logs a run to a tracker."""
    place = Place(folder)
    busy = f"{folder.path} is being logged to {name} by another process: wait for it, then run 'prunepeft track'"
    with locked(place.local / "tracking" / name, busy=busy):
        tracker = TRACKERS[name].build(place)
        try:
            logbook = Logbook(Records(folder), tracker, on_progress)
            yield logbook
        finally:
            tracker.close()
        tell(f"{name}: {logbook.jobs} job{'' if logbook.jobs == 1 else 's'} logged, {tracker.where}")


def track(folder: RunFolder, to: Sequence[str], tell: Tell = lambda line: None) -> None:
    """Log the results of a search or study so far to trackers; nothing is logged twice.

    Args:
        folder: The run.
        to: Names of trackers: ``tensorboard``, ``mlflow`` or ``wandb``.
        tell: Callback that receives a line per tracker on what was logged.

    Raises:
        InputError: If a tracker is unknown, not installed, not set up, or in use for this run by another process.
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
                f"{_failure(name, error)}; fix this, then 'prunepeft track {folder.path} --to {name}' logs the rest"
            ) from error


@contextmanager
def tracking(path: Path, to: Sequence[str], emit: Emit) -> Iterator[Emit]:
    """Log a run while it runs: each job when it ends, and everything else at the end.

    Every tracker runs in its own thread; one that fails or hangs costs a warning and does not affect the run.

    Args:
        path: Folder of the run; need not exist yet.
        to: Names of trackers.
        emit: Callback that receives events, including, from other threads, messages of the trackers.

    Yields:
        Callback that receives events instead, and passes them on to ``emit``.

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
        # the folder may belong to another run
        complete = False
        raise
    finally:
        for follower in followers:
            follower.finish(complete)


class Follower(threading.Thread):
    """Thread that logs a run to one tracker as its jobs end.

    Args:
        path: Folder of the run.
        name: Name of the tracker.
        tell: Callback that receives a line on what was logged, or on what went wrong.
    """

    def __init__(self, path: Path, name: str, tell: Tell) -> None:
        super().__init__(daemon=True, name=f"prunepeft-{name}")
        self._path = path
        self._tracker = name
        self._tell = tell
        # ids of jobs; at the end, whether to log everything else
        self._queue: queue.SimpleQueue[str | bool] = queue.SimpleQueue()
        self._moved = time.monotonic()
        self.start()

    def put(self, job_id: str) -> None:
        """Queue a job that has ended; does not block."""
        self._queue.put(job_id)

    def finish(self, complete: bool) -> None:
        """End the thread, waiting for as long as the tracker makes progress.

        Args:
            complete: Whether to log everything that is missing first.
        """
        self._queue.put(complete)
        self._move()
        while self.is_alive() and time.monotonic() - self._moved < PATIENCE_SECONDS:
            self.join(0.1)
        if self.is_alive():
            self._give_up(f"no response for {PATIENCE_SECONDS:.0f} s")

    def run(self) -> None:
        """Log until the end of the run, or until something fails."""
        item = self._queue.get()
        try:
            if item is not False and is_file(self._path / SPEC_FILE):
                self._follow(item)
        except PrunePEFTError as error:
            self._give_up(error_line(error))
        except Exception as error:  # noqa: BLE001  a tracker must not affect the search
            self._give_up(_failure(self._tracker, error))

    def _follow(self, item: str | bool) -> None:
        with _logbook(RunFolder(self._path), self._tracker, self._move, self._tell) as logbook:
            # covers earlier results and the first item
            logbook.catch_up()
            while isinstance(item, str):
                item = self._queue.get()
                if isinstance(item, str):
                    logbook.log_ended(item)
                elif item:
                    logbook.catch_up()

    def _move(self) -> None:
        self._moved = time.monotonic()

    def _give_up(self, why: str) -> None:
        self._tell(
            f"warning: logging to {self._tracker} stopped: {why}; log the rest later with "
            f"'prunepeft track {self._path} --to {self._tracker}'"
        )


def _distinct(names: Sequence[str]) -> list[str]:
    """Return each name once, after checking that its tracker can be used."""
    for name in names:
        check_tracker(name)
    return list(dict.fromkeys(names))


def _failure(name: str, error: Exception) -> str:
    return f"{name}: {type(error).__name__}: {error_line(error)}"
