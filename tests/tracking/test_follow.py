"""Logging a run exactly once, whatever happens to process and tracker."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_fakes import STUDY, MemoryTracker, RunFake, register, whole_search

import prunepeft_ray
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.events import Event
from prunepeft_ray.results import RunFolder
from prunepeft_ray.storage import locked
from prunepeft_ray.tracking import Records, track, tracking
from prunepeft_ray.tracking import follower as follow
from prunepeft_ray.tracking.follower import Logbook
from prunepeft_ray.waiting import wait_until


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A search that has ended, for tests that only read it."""
    return whole_search(tmp_path_factory.mktemp("runs") / "demo").folder


@pytest.fixture
def memory(monkeypatch):
    return register(monkeypatch, MemoryTracker())


@pytest.fixture
def news():
    """Collects what is told, and stands for who shows it."""
    events = []
    return events, events.append


def texts(events):
    return [event.text for event in events if event.type == "message"]


def ended(job_id, text="100 examples in 2.0 s"):
    return Event("end", text, "round", job_id)


# what ran before


def test_a_search_is_logged_whole(tmp_path, memory):
    lines = []
    track(whole_search(tmp_path / "demo").folder, ["memory"], lines.append)
    assert [job.label for job, _ in memory.jobs.values()] == ["warmup 1", "round 2", "final 3"]
    assert [[step.number for step in steps] for steps in memory.steps.values()] == [[1, 2, 3]]
    assert [outcome.step for outcome in memory.outcomes.values()] == [3]
    assert memory.begun == ["demo"]
    assert memory.closed == 1
    assert lines == ["memory: 3 jobs logged, in memory"]


def test_a_run_is_logged_from_python_too(demo, memory):
    prunepeft_ray.track(str(demo.path), to=["memory"])
    assert len(memory.jobs) == 3


def test_nothing_is_logged_twice(tmp_path, memory):
    run, lines = whole_search(tmp_path / "demo"), []
    track(run.folder, ["memory", "memory"])
    pieces = memory.pieces
    track(run.folder, ["memory"], lines.append)
    assert memory.pieces == pieces
    assert lines == ["memory: 0 jobs logged, in memory"]


def test_searches_that_have_not_begun_are_not_logged(tmp_path, memory):
    run = RunFake(tmp_path / "study", STUDY)
    run.ask("prunepeft", 1, 0, run.job(method="prunepeft", seed=1))
    track(run.folder, ["memory"])
    assert [name.split(",")[0] for name in memory.begun] == ["prunepeft"]


def test_a_retraining_that_is_added_later_makes_a_new_outcome(tmp_path, memory):
    run = RunFake(tmp_path / "study", STUDY)
    run.ask("prunepeft", 0, 0, run.job("final", method="prunepeft", seed=0, test={"accuracy": 0.5}), "final")
    run.end("prunepeft", 0)
    track(run.folder, ["memory"])
    run.ask("prunepeft", 0, 1, run.job("final", method="prunepeft", seed=0, test={"accuracy": 0.75}), "final")
    track(run.folder, ["memory"])
    (outcome,) = memory.outcomes.values()
    assert (outcome.step, outcome.results["test/accuracy"]) == (2, 0.625)


def test_a_tracker_that_fails_is_one_line_that_says_how_to_go_on(tmp_path, memory):
    memory.fail_at = 2
    run = whole_search(tmp_path / "demo")
    with pytest.raises(RunError, match=r"memory: OSError: the server is gone; .*prunepeft track .*demo --to memory"):
        track(run.folder, ["memory"])
    assert memory.closed == 1


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3), max_size=8))
def test_whatever_piece_fails_each_is_logged_once_in_the_end(demo, failures):
    tracker = MemoryTracker()
    for pieces in failures:
        tracker.fail_at = tracker.pieces + pieces
        try:
            Logbook(Records(demo), tracker).catch_up()
        except OSError:
            continue
    tracker.fail_at = None
    Logbook(Records(demo), tracker).catch_up()
    # the fake refuses what it has already
    assert (tracker.pieces, len(tracker.jobs), len(tracker.outcomes)) == (7, 3, 1)


def test_two_processes_do_not_log_a_run_to_the_same_tracker(tmp_path, memory):
    run = whole_search(tmp_path / "demo")
    with locked(run.folder.path / "tracking" / "memory"), pytest.raises(InputError, match="by another process"):
        track(run.folder, ["memory"])
    track(run.folder, ["memory"])
    assert len(memory.jobs) == 3


# while it runs


def test_a_job_is_logged_when_it_has_ended_and_the_rest_at_the_end(tmp_path, memory, news):
    events, show = news
    path = tmp_path / "demo"
    with tracking(path, ["memory"], show) as emit:
        emit(Event("message", "reading task"))
        run = RunFake(path)
        first = run.job()
        emit(ended(first))
        wait_until(lambda: first in memory.jobs, 10, "was not logged while the search ran")
        second = run.job()
        emit(ended(second))
        wait_until(lambda: second in memory.jobs, 10, "was not logged while the search ran")
        unheard = run.job("final")
        run.finish()
    assert list(memory.jobs) == [first, second, unheard]
    assert [[step.number for step in steps] for steps in memory.steps.values()] == [[1, 2, 3]]
    assert len(memory.outcomes) == 1
    assert [event.type for event in events] == ["message", "end", "end", "message"]
    assert texts(events) == ["reading task", "memory: 3 jobs logged, in memory"]


def test_a_resumed_run_is_logged_from_where_it_was(tmp_path, memory, news):
    _, show = news
    run = RunFake(tmp_path / "demo")
    with pytest.raises(KeyboardInterrupt), tracking(run.folder.path, ["memory"], show) as emit:
        emit(ended(run.job()))
        emit(ended("0123456789abcdef", "stopped; checkpoint saved"))
        raise KeyboardInterrupt
    assert len(memory.jobs) == 1
    with tracking(run.folder.path, ["memory"], show) as emit:
        emit(ended(run.job("final")))
        run.finish()
    assert (len(memory.jobs), len(memory.outcomes), memory.pieces) == (2, 1, 5)


def test_a_finished_run_is_logged_without_any_news(tmp_path, memory, news):
    run = whole_search(tmp_path / "demo")
    with tracking(run.folder.path, ["memory"], news[1]):
        pass
    assert len(memory.jobs) == 3


def test_a_run_that_was_refused_is_left_alone(tmp_path, memory, news):
    run = whole_search(tmp_path / "somebody's")
    with pytest.raises(InputError, match="contains another run"), tracking(run.folder.path, ["memory"], news[1]):
        RunFolder.check_free(run.folder.path)
    with pytest.raises(RunError), tracking(tmp_path / "nothing", ["memory"], news[1]):
        raise RunError("no room")
    assert memory.begun == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["somebody's"]
    assert not (run.folder.path / "tracking").exists()


def test_a_tracker_that_fails_does_not_end_a_search(tmp_path, memory, news, monkeypatch):
    events, show = news
    other = register(monkeypatch, MemoryTracker(), "other")
    memory.fail_at = 0
    run = RunFake(tmp_path / "demo")
    with tracking(run.folder.path, ["memory", "other"], show) as emit:
        for _ in range(3):
            emit(ended(run.job()))
    assert sorted(texts(events)) == [
        "other: 3 jobs logged, in memory",
        "warning: logging to memory stopped: memory: OSError: the server is gone; log the rest later with "
        f"'prunepeft track {run.folder.path} --to memory'",
    ]
    assert (len(memory.jobs), len(other.jobs), memory.closed) == (0, 3, 1)


def test_a_tracker_that_hangs_is_left_behind(tmp_path, memory, news, monkeypatch):
    events, show = news
    monkeypatch.setattr(follow, "PATIENCE_SECONDS", 0.3)
    release = threading.Event()
    monkeypatch.setattr(memory, "log_job", lambda job, epochs: release.wait(20), raising=False)
    run = RunFake(tmp_path / "demo")
    started = time.monotonic()
    with tracking(run.folder.path, ["memory"], show) as emit:
        emit(ended(run.job()))
        assert time.monotonic() - started < 5
    assert time.monotonic() - started < 10
    release.set()
    assert "warning: logging to memory stopped: no response for 0 s" in texts(events)[0]


def test_no_trackers_cost_nothing(tmp_path, news):
    before = threading.active_count()
    with tracking(tmp_path / "demo", (), news[1]) as emit:
        emit(Event("message", "hello"))
        assert threading.active_count() == before
    assert texts(news[0]) == ["hello"]
