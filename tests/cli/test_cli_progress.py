import io

from rich.console import Console

from prunepeft_ray.cli.main import run
from prunepeft_ray.cli.progress import show_progress
from prunepeft_ray.execution import Event

EVENTS = [
    Event("message", "starting [2] workers"),
    Event("start", "round 1/3", "round", "a"),
    Event("progress", "round 1/3", "round", "a", 50, 100),
    Event("end", "100 examples in 2.0 s (50/s)", "round", "a"),
    Event("message", "round 1: removed SA.0 (p=0.200, weight)"),
]


def shown(terminal: bool) -> str:
    out = io.StringIO()
    with show_progress(Console(file=out, force_terminal=terminal, width=100)) as emit:
        for event in EVENTS:
            emit(event)
    return out.getvalue()


def test_plain_lines_when_not_a_terminal():
    assert shown(terminal=False).splitlines() == [
        "starting [2] workers",
        "round 1/3: 100 examples in 2.0 s (50/s)",
        "round 1: removed SA.0 (p=0.200, weight)",
    ]


def test_running_jobs_are_shown_now_and_then_in_plain_lines(monkeypatch):
    monkeypatch.setattr("prunepeft_ray.cli.progress.PLAIN_SECONDS", 0.0)
    assert "round 1/3: 50 of at most 100 examples" in shown(terminal=False)


def test_bars_on_a_terminal_give_way_to_what_came_of_the_job():
    text = shown(terminal=True)
    assert "round 1/3" in text
    assert "100 examples in 2.0 s" in text
    assert "starting [2] workers" in text


def test_progress_of_a_job_that_was_not_announced_is_ignored():
    out = io.StringIO()
    with show_progress(Console(file=out, force_terminal=False)) as emit:
        emit(Event("progress", "round 1/3", "round", "unknown", 1, 2))
    assert out.getvalue() == ""


def test_an_interruption_says_that_nothing_is_lost_and_how_to_go_on(capsys, monkeypatch):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("prunepeft_ray.execution.start_search", interrupted)
    assert run(["search", "--model", "m", "--task", "t", "--budget", "1%"]) == 130
    assert "prunepeft resume" in capsys.readouterr().err
