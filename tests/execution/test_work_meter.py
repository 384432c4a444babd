"""What all attempts at a job have trained on, whatever has ended them; no clock but the test's."""

import time

import pytest

from prunepeft_ray.execution.job_checkpoint import JobKeeper
from prunepeft_ray.execution.work_meter import WorkMeter, spent_before


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def work(meter, clock, begin, steps, batch=8, seconds=0.1):
    """Train from a place on for a number of steps; returns where that is."""
    meter.begin(begin)
    for step in range(steps):
        meter.advance(begin + (step + 1) * batch)
        clock[0] += seconds
    return begin + steps * batch


def notes(folder):
    return list(folder.glob("*.work"))


def test_an_attempt_that_ends_by_itself_is_counted_exactly(tmp_path, clock):
    meter = WorkMeter("a", tmp_path)
    assert work(meter, clock, 0, 29) == 232
    meter.leave()
    assert spent_before(tmp_path, "a") == 232
    # taken up again after a state of 100 examples, and stopped once more
    again = WorkMeter("a", tmp_path)
    assert work(again, clock, 100, 10) == 180
    again.leave()
    assert spent_before(tmp_path, "a") == 232 + 80
    last = WorkMeter("a", tmp_path)
    work(last, clock, 150, 20)
    assert last.spent(310) == 232 + 80 + 160


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 51, 200, 1000])
def test_a_kill_leaves_a_count_that_is_never_too_small_and_little_too_large(tmp_path, clock, steps):
    done = work(WorkMeter("a", tmp_path), clock, 0, steps)
    # ten steps of 8 examples a second
    assert done <= spent_before(tmp_path, "a") <= min(2 * done, done + 5 * 80)


def test_notes_are_few(tmp_path, clock, monkeypatch):
    written, write = [], WorkMeter._note
    monkeypatch.setattr(WorkMeter, "_note", lambda self, reached: (written.append(reached), write(self, reached)))
    work(WorkMeter("a", tmp_path), clock, 0, 1000)
    # 100 seconds
    assert len(written) < 35


def test_two_tries_of_one_process_are_both_counted(tmp_path, clock):
    keeper = JobKeeper("a", tmp_path, 60, lambda: False, lambda text: None)
    for examples in (40, 96):
        keeper.begin(0)
        for done in range(0, examples, 8):
            keeper.before_step(done, 8)
        if examples == 40:
            # out of memory in its fifth step
            keeper.leave()
    assert keeper.redone(96) == 40
    assert len(notes(tmp_path)) == 2
    keeper.discard()
    assert notes(tmp_path) == []


def test_attempts_whose_notes_are_gone_or_damaged_cost_nothing(tmp_path, clock):
    work(WorkMeter("a", tmp_path), clock, 0, 3)
    work(WorkMeter("ab", tmp_path), clock, 0, 3)
    (note,) = tmp_path.glob("a.*.work")
    note.write_bytes(b"[0")
    assert spent_before(tmp_path, "a") == 0
    keeper = JobKeeper("a", tmp_path, 60, lambda: False, lambda text: None)
    keeper.begin(24)
    assert keeper.redone(48) == 0
