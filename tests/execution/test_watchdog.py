import threading
import time

import pytest

from prunepeft_ray.execution.watchdog import Watchdog


@pytest.fixture
def hung():
    return threading.Event()


def test_a_job_without_steps_is_noticed(hung):
    with Watchdog(0.05, hung.set).watching():
        assert hung.wait(10)


def test_a_job_that_makes_steps_is_left_alone(hung):
    watchdog = Watchdog(2, hung.set)
    with watchdog.watching():
        for _ in range(12):
            time.sleep(0.2)
            watchdog.touch()
        assert not hung.is_set()


def test_nothing_is_watched_between_jobs(hung):
    watchdog = Watchdog(1, hung.set)
    with watchdog.watching():
        pass
    assert not hung.wait(1.5)
    # the time in between does not count
    with watchdog.watching():
        watchdog.touch()
    assert not hung.is_set()
