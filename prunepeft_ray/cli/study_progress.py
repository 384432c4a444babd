"""Showing the progress of a running study."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table

from prunepeft_ray.cli.progress import show_progress
from prunepeft_ray.cli.terminal import Terminal
from prunepeft_ray.events import MESSAGES

if TYPE_CHECKING:
    from prunepeft_ray.events import Emit, Event
    from prunepeft_ray.execution.study.progress import MethodProgress, Watch

PLAIN_SECONDS = 60.0


@contextmanager
def show_study(console: Terminal) -> Iterator[tuple[Emit, Watch]]:
    """Show events and progress: a live table on a terminal; elsewhere plain lines, and the rows every minute."""
    if console.is_terminal:
        with Live(console=console, transient=True, auto_refresh=False) as live:

            def watch(progress: Sequence[MethodProgress]) -> None:
                live.update(progress_table(progress), refresh=True)

            yield _messages(console), watch
    else:
        with show_progress(console) as emit:
            yield emit, _lines(console)


def progress_table(progress: Sequence[MethodProgress]) -> Table:
    """Return a table of the progress of all methods."""
    places = list(dict.fromkeys(place for row in progress for place in row.best))
    table = Table("method", title="study so far", caption="epochs: passes over the training split, retraining included")
    for heading in ("searches", "jobs", "running", *(_heading(place, places) for place in places), "epochs", "left"):
        table.add_column(heading, justify="right")
    for row in progress:
        best = [row.best.get(place) for place in places]
        table.add_row(
            row.method,
            f"{row.ended}/{row.searches}" + (f" ({row.failed} failed)" if row.failed else ""),
            str(row.jobs),
            str(row.running),
            *("–" if value is None else f"{value:.4f}" for value in best),
            f"{row.epochs:.1f}",
            _left(row.seconds_left),
        )
    return table


def _heading(place: tuple[str, str], places: Sequence[tuple[str, str]]) -> str:
    """Title of a column: the task, and the model if there are several."""
    model, task = (name.split(":")[-1].rstrip("/").split("/")[-1] for name in place)
    return f"best dev {task}" if len({place[0] for place in places}) == 1 else f"best dev {task}, {model}"


def _left(seconds: float | None) -> str:
    from prunepeft_ray.text import duration_text

    return "–" if seconds is None else duration_text(seconds)


def _messages(console: Terminal) -> Emit:
    """Print messages and failures above the table, which itself shows all other jobs."""

    def emit(event: Event) -> None:
        if event.type in MESSAGES or event.text.startswith("failed"):
            console.tell(event.text)

    return emit


def _lines(console: Terminal) -> Callable[[Sequence[MethodProgress]], None]:
    shown = time.monotonic()

    def watch(progress: Sequence[MethodProgress]) -> None:
        nonlocal shown
        over = all(row.ended == row.searches for row in progress)
        if time.monotonic() - shown < PLAIN_SECONDS and not over:
            return
        shown = time.monotonic()
        for row in progress:
            line = (
                f"  {row.method}: {row.ended}/{row.searches} searches, {row.jobs} jobs, {row.running} running, "
                f"{row.epochs:.1f} epochs, {_left(row.seconds_left)} left"
            )
            console.tell(line)

    return watch
