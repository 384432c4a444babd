"""Reporting the status of a search job, as lines in its driver's log that the client reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from prunepeft_ray.errors import PrunePEFTError
from prunepeft_ray.events import MESSAGES, Emit, Event
from prunepeft_ray.execution.study.progress import MethodProgress, Watch
from prunepeft_ray.results import ResultsStore
from prunepeft_ray.service.status import UNDECIDED, Status
from prunepeft_ray.text import duration_text

PAUSE_SECONDS = 2.0
"""Minimum time between two lines, except when the state changes."""
AGAIN_SECONDS = 50.0
"""Age at which an unchanged line is repeated on the next event, since only the end of a log is read."""


class Reporter:
    """Passes a run's events on, and prints a status line when they change the status.

    Args:
        results: Folder of the run's results.
        emit: Callback that receives events.
        watch: Callback that receives the progress of a study.
    """

    def __init__(self, results: Path, emit: Emit, watch: Watch) -> None:
        self._store = ResultsStore(results)
        self._emit = emit
        self._watch = watch
        self._status = Status()
        self._printed = Status(state="starting")
        self._due = 0.0
        self._jobs = "0 training jobs"
        self._is_study = False
        # events also come from the threads of trackers
        self._lock = threading.Lock()
        self._tell()

    def emit(self, event: Event) -> None:
        """Handle an event, and pass it on."""
        self._emit(event)
        with self._lock:
            self._take(event)

    def watch(self, progress: Sequence[MethodProgress]) -> None:
        """Handle the progress of a study, and pass it on."""
        self._watch(progress)
        ended, searches, jobs = (sum(getattr(row, key) for row in progress) for key in ("ended", "searches", "jobs"))
        left = [row.seconds_left for row in progress if row.ended < row.searches]
        known = [seconds for seconds in left if seconds is not None]
        text = f"{ended}/{searches} searches, {jobs} training jobs"
        if known and len(known) == len(left):
            text += f", {duration_text(max(known))} left"
        with self._lock:
            # from now on single training jobs are not shown
            self._is_study = True
            self._change(progress=text, best=_best(progress))

    def fail(self, why: str) -> None:
        """Report why the run has failed."""
        with self._lock:
            self._status = replace(self._status, error=why)
            self._tell()

    def _take(self, event: Event) -> None:
        if event.type == "accepted":
            self._count()
            self._change(state="waiting", waits_for=UNDECIDED)
        elif event.type == "waiting":
            self._change(state="waiting", waits_for=event.text)
        elif event.type == "share":
            self._hold(event)
        elif self._is_study:
            self._change()
        elif event.type == "progress" and event.total:
            part = f"{event.text} {100 * event.done // event.total} %"
            self._change(state="running", waits_for="", progress=f"{self._jobs}, {part}")
        elif event.type == "end":
            self._count()
            self._find_best(event)
        elif event.type not in MESSAGES:
            self._change(state="running", waits_for="")

    def _count(self) -> None:
        with suppress(PrunePEFTError, OSError):
            count = len(self._store.keys("jobs"))
            self._jobs = f"{count} training job{'' if count == 1 else 's'}"
            self._change(progress=self._jobs)

    def _hold(self, event: Event) -> None:
        resources = event.resources or {}
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        if cpus or gpus:
            self._change(state="running", waits_for="", cpus=cpus, gpus=gpus)
        else:
            self._change(cpus=0.0, gpus=0.0)

    def _find_best(self, event: Event) -> None:
        if event.kind not in ("round", "final"):
            return
        # a job that was only stopped is not in the store
        with suppress(PrunePEFTError, OSError):
            for row in self._store.rows("jobs", [event.job_id]).get(event.job_id, []):
                value = dict(row["metrics"] or ()).get(row["metric"])
                if value is not None:
                    self._change(best=f"dev {row['metric']} {value:.4f} ({row['label']})")

    def _change(self, **changes: object) -> None:
        self._status = replace(self._status, **changes)  # type: ignore[arg-type]
        if self._status == self._printed and time.monotonic() < self._due + AGAIN_SECONDS:
            return
        if time.monotonic() >= self._due or (self._status.state, self._status.waits_for, self._status.best) != (
            self._printed.state,
            self._printed.waits_for,
            self._printed.best,
        ):
            self._tell()

    def _tell(self) -> None:
        print(self._status.line(), flush=True)
        self._printed, self._due = self._status, time.monotonic() + PAUSE_SECONDS


def _best(progress: Sequence[MethodProgress]) -> str:
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for row in progress:
        for place, value in row.best.items():
            if value is not None and (place not in best or value > best[place][0]):
                best[place] = value, row.method
    names = {place: place[1].split(":")[-1].rsplit("/", 1)[-1] for place in best}
    return ", ".join(f"{names[place]} {value:.4f} ({method})" for place, (value, method) in best.items())
