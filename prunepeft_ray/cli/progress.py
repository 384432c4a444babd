"""Showing the progress of a running search."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from prunepeft_ray.cli.terminal import Terminal
from prunepeft_ray.events import MESSAGES
from prunepeft_ray.text import visible_line

if TYPE_CHECKING:
    from prunepeft_ray.events import Emit, Event

PLAIN_SECONDS = 10.0


@contextmanager
def show_progress(console: Terminal) -> Iterator[Emit]:
    """Show events: bars on a terminal, plain lines elsewhere."""
    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("examples, {task.fields[rate]}/s"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            yield _Bars(progress, console).show
    else:
        yield _Lines(console).show


class _Bars:
    """One bar per running job."""

    def __init__(self, progress: Progress, console: Terminal) -> None:
        self._progress = progress
        self._console = console
        self._bars: dict[str, TaskID] = {}
        self._labels: dict[str, str] = {}

    def show(self, event: Event) -> None:
        if event.type == "lost":
            for bar in self._bars.values():
                self._progress.remove_task(bar)
            self._bars.clear()
        if event.type in MESSAGES:
            self._console.tell(event.text)
        elif event.type == "start":
            # a job that is retried
            if event.job_id in self._bars:
                self._progress.remove_task(self._bars.pop(event.job_id))
            self._labels[event.job_id] = event.text
            self._bars[event.job_id] = self._progress.add_task(visible_line(event.text), total=None, rate="-")
        elif event.type == "progress" and event.job_id in self._bars:
            bar = self._bars[event.job_id]
            speed = next((t.speed for t in self._progress.tasks if t.id == bar), None)
            rate = f"{speed:.0f}" if speed else "-"
            self._progress.update(bar, completed=event.done, total=event.total, rate=rate)
        elif event.type == "end" and event.job_id in self._bars:
            self._progress.remove_task(self._bars.pop(event.job_id))
            self._console.tell(f"{self._labels[event.job_id]}: {event.text}", style="dim")


class _Lines:
    """Plain lines; the progress of a running job every few seconds."""

    def __init__(self, console: Terminal) -> None:
        self._console = console
        self._labels: dict[str, str] = {}
        self._since: dict[str, tuple[float, int]] = {}
        self._shown: dict[str, float] = {}

    def show(self, event: Event) -> None:
        if event.type in MESSAGES:
            self._console.tell(event.text)
        elif event.type == "start":
            self._labels[event.job_id] = event.text
            self._shown[event.job_id] = time.monotonic()
            self._since.pop(event.job_id, None)
        elif event.type == "end":
            self._console.tell(f"{self._labels.get(event.job_id, event.kind)}: {event.text}")
        elif event.type == "progress" and event.job_id in self._shown:
            self._show_progress(event)

    def _show_progress(self, event: Event) -> None:
        now = time.monotonic()
        # a resumed job does not start at 0
        since, done_before = self._since.setdefault(event.job_id, (now, event.done))
        if now - self._shown[event.job_id] < PLAIN_SECONDS or event.done == done_before:
            return
        self._shown[event.job_id] = now
        rate = (event.done - done_before) / max(1e-9, now - since)
        left = (event.total - event.done) / rate
        counted = f"{event.done:,} of at most {event.total:,} examples"
        self._console.tell(f"  {self._labels[event.job_id]}: {counted}, {rate:.0f}/s, {left:.0f} s left")
