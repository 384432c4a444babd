"""When a group of workers is worth another start, by a clock that a test sets."""

import pytest

from prunepeft_ray.cluster.sharing.claim import WholeCluster
from prunepeft_ray.execution.search.resizing import GROW_SECONDS, LIFE_SECONDS, SHRINK_SECONDS, Resizing


class Moving:
    """A share that changes, and a clock."""

    def __init__(self, workers):
        self.share, self.now = WholeCluster(workers), 0.0
        self.resizing = Resizing(self.share, workers, lambda: self.now)

    def due_at(self, now, units):
        self.now, self.share.units = now, units
        return self.resizing.due()


@pytest.fixture
def two():
    return Moving(2)


def test_a_group_whose_share_stays_goes_on(two):
    assert not any(two.due_at(now, 2) for now in range(0, 1000, 10))


def test_a_larger_share_must_last_and_the_group_have_worked(two):
    assert not two.due_at(1, 3)
    assert not two.due_at(1 + GROW_SECONDS, 3)
    assert not two.due_at(LIFE_SECONDS - 0.1, 3)
    assert two.due_at(LIFE_SECONDS, 3)


def test_a_share_that_grows_for_a_moment_is_let_go(two):
    assert not two.due_at(100, 3)
    assert not two.due_at(101, 2)
    assert not two.due_at(102, 3)
    assert not two.due_at(102 + GROW_SECONDS - 0.1, 3)
    assert two.due_at(102 + GROW_SECONDS, 3)


def test_a_smaller_share_is_obeyed_soon(two):
    assert not two.due_at(1, 1)
    assert not two.due_at(SHRINK_SECONDS, 1)
    assert two.due_at(1 + SHRINK_SECONDS, 1)


def test_nobody_is_thrown_out():
    one = Moving(1)
    assert not any(one.due_at(now, 0) for now in range(100))
