import io

import pytest

from prunepeft_ray.cli.main import run
from prunepeft_ray.cli.progress import show_progress
from prunepeft_ray.cli.terminal import Terminal
from prunepeft_ray.errors import Terminated
from prunepeft_ray.events import Event

EVENTS = [
    Event("message", "starting [2] workers"),
    Event("start", "round 1/3", "round", "a"),
    Event("progress", "round 1/3", "round", "a", 50, 100),
    Event("end", "100 examples in 2.0 s (50/s)", "round", "a"),
    Event("message", "round 1: removed SA.0 (p=0.200, weight)"),
]


def shown(terminal: bool) -> str:
    out = io.StringIO()
    with show_progress(Terminal(file=out, force_terminal=terminal, width=100)) as emit:
        for event in EVENTS:
            emit(event)
    return out.getvalue()


def test_plain_lines_when_not_a_terminal():
    assert shown(terminal=False).splitlines() == [
        "starting [2] workers",
        "round 1/3: 100 examples in 2.0 s (50/s)",
        "round 1: removed SA.0 (p=0.200, weight)",
    ]


def shown_lines(monkeypatch, progress):
    """Plain lines of a job that tells the progress at those seconds."""
    now = [0.0]
    monkeypatch.setattr("prunepeft_ray.cli.progress.time.monotonic", lambda: now[0])
    out = io.StringIO()
    with show_progress(Terminal(file=out, force_terminal=False, width=100)) as emit:
        emit(EVENTS[1])
        for now[0], done in progress:
            emit(Event("progress", "round 1/3", "round", "a", done, 100))
    return out.getvalue().splitlines()


def test_running_jobs_are_shown_every_ten_seconds_in_plain_lines(monkeypatch):
    assert shown_lines(monkeypatch, [(0.0, 0), (5.0, 10), (10.0, 20), (19.0, 38), (21.0, 42)]) == [
        "  round 1/3: 20 of at most 100 examples, 2/s, 40 s left",
        "  round 1/3: 42 of at most 100 examples, 2/s, 29 s left",
    ]


def test_the_rate_of_a_job_that_goes_on_leaves_out_what_was_done_before(monkeypatch):
    assert shown_lines(monkeypatch, [(1.0, 80), (11.0, 90)]) == [
        "  round 1/3: 90 of at most 100 examples, 1/s, 10 s left"
    ]


def test_lost_jobs_give_up_their_bars_and_may_begin_again():
    out = io.StringIO()
    with show_progress(Terminal(file=out, force_terminal=True, width=100)) as emit:
        emit(EVENTS[1])
        emit(EVENTS[2])
        emit(Event("lost", "worker 1 died; restart 1 of at most 3"))
        # of a job that runs no longer
        emit(EVENTS[2])
        for event in EVENTS[1:4]:
            emit(event)
    assert "worker 1 died; restart" in out.getvalue()
    assert "100 examples in 2.0 s" in out.getvalue()


def test_bars_on_a_terminal_give_way_to_what_came_of_the_job():
    text = shown(terminal=True)
    assert "round 1/3" in text
    assert "100 examples in 2.0 s" in text
    assert "starting [2] workers" in text


def test_progress_of_a_job_that_was_not_announced_is_ignored():
    out = io.StringIO()
    with show_progress(Terminal(file=out, force_terminal=False)) as emit:
        emit(Event("progress", "round 1/3", "round", "unknown", 1, 2))
    assert out.getvalue() == ""


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_an_interruption_says_that_nothing_is_lost_and_how_to_go_on(capsys, monkeypatch, end, code):
    def interrupted(*_args, **_kwargs):
        raise end

    monkeypatch.setattr("prunepeft_ray.execution.start_search", interrupted, raising=False)
    assert run(["search", "--model", "m", "--task", "t", "--budget", "1%"]) == code
    assert "prunepeft resume" in capsys.readouterr().err
