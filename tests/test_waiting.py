"""One way to wait for what can only be looked at again and again."""

import pytest

from prunepeft_ray import waiting
from prunepeft_ray.errors import RunError
from prunepeft_ray.waiting import poll, wait_until


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves; the naps that were taken."""
    naps = []
    monkeypatch.setattr(waiting.time, "monotonic", lambda: sum(naps))
    monkeypatch.setattr(waiting.time, "sleep", naps.append)
    return naps


def test_the_answer_that_is_true_is_returned_at_once(clock):
    answers = iter([0, "", [1], [2]])
    assert wait_until(lambda: next(answers), 10, "never", pause=3) == [1]
    assert clock == [3, 3]


def test_time_that_is_up_is_told_by_what_was_found_out_then(clock):
    seen = []
    with pytest.raises(RunError, match="asked 4 times"):
        wait_until(lambda: seen.append(1), 2.5, lambda: f"asked {len(seen)} times", pause=1)
    with pytest.raises(RunError, match="no node came"):
        wait_until(lambda: False, 1, "no node came")


def test_the_last_answer_is_returned_when_time_is_up(clock):
    assert poll(list, 0) == []
    assert clock == []
    assert poll(lambda: len(clock) > 2, 3, pause=1) is True


def test_what_the_condition_raises_is_raised(clock):
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0, 10, "never")
