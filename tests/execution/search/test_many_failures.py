"""More than forty kills at seeded random moments; see test_failures.py for the quick ones."""

import contextlib
import os
import random
import signal
import subprocess
import time

import pytest
from chaos import (
    environment,
    every_file_is_readable,
    finished_twice,
    longer_spec,
    processes,
    restarts,
    searching,
    two_nodes,
)
from execution_toys import answer, assert_same_answer

from prunepeft_ray.results import ResultsStore

pytestmark = pytest.mark.slow

PHASES = ("warmup", "round", "final")
A_JOB = 1.5
"""Seconds that a phase's first job lasts, about."""


@pytest.fixture(scope="module")
def longer(tiny_bert, small_task):
    return longer_spec(tiny_bert, small_task)


def wait_for_random_moment(search, before, phase, rng):
    search.wait_until(lambda: len(list((search.folder / "results" / "jobs").glob("[!.]*"))) >= before[phase])
    time.sleep(rng.uniform(0, A_JOB))


def no_row_is_lost_or_doubled(path, undisturbed):
    """Whether every table has the rows of an undisturbed search, each once."""
    store, whole = ResultsStore(path / "results"), ResultsStore(undisturbed / "results")
    keys = {
        "jobs": ["job_id"],
        "epochs": ["job_id", "epoch"],
        "scores": ["job_id", "criterion", "slot"],
        "architectures": ["job_id", "slot"],
        "decisions": ["step", "index", "job_id", "slot"],
    }
    for table, columns in keys.items():
        rows = sorted(store.read(table)[columns].itertuples(index=False, name=None))
        assert rows == sorted(whole.read(table)[columns].itertuples(index=False, name=None)), table
    assert (store.read("jobs")["redone_examples"] >= 0).all()


def kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", range(3))
def test_workers_killed_in_every_phase(tmp_path, longer, undisturbed_longer, before, seed):
    rng, path, kills = random.Random(seed), tmp_path / "run", 0
    with searching(path, longer, "--workers", "2") as search:
        for phase in PHASES:
            wait_for_random_moment(search, before, phase, rng)
            workers = search.workers()
            kill(rng.sample(workers, min(len(workers), 1 + seed % 2)))
            kills += bool(workers)
        assert search.process.wait(180) == 0, search.told
        assert finished_twice(search.told) == []
        assert search.told.count("; restart ") <= kills
        # nothing of Ray's own words
        assert "raylet" not in search.told
    assert kills == 3
    no_row_is_lost_or_doubled(path, undisturbed_longer)
    assert_same_answer(answer(path), answer(undisturbed_longer))


STARTING = ("TrainController", "RayTrainWorker", "Mailbox")
"""Ray's and our processes that a group consists of, in the order in which they are killed."""


def wait_for_a_process(search, name, since):
    """Wait until a process of that name runs that did not before; returns its pid, or none if the search has ended."""
    found = []

    def is_there():
        found[:] = [pid for pid in search.workers(name) if pid not in since]
        return bool(found)

    search.wait_until(is_there)
    return found[:1]


@pytest.mark.parametrize("seed", range(3))
def test_processes_killed_while_a_group_starts(tmp_path, longer, undisturbed_longer, seed):
    rng, path, killed = random.Random(100 + seed), tmp_path / "run", []
    with searching(path, longer, "--workers", "2") as search:
        for name in rng.sample(STARTING, len(STARTING)):
            (pid,) = wait_for_a_process(search, name, killed)
            # a worker is a second or two from its first job
            time.sleep(rng.uniform(0, 1))
            kill([pid])
            killed.append(pid)
        assert search.process.wait(240) == 0, search.told
        assert finished_twice(search.told) == []
    assert len(killed) == 3
    no_row_is_lost_or_doubled(path, undisturbed_longer)
    assert_same_answer(answer(path), answer(undisturbed_longer))


@pytest.mark.parametrize("seed", range(2))
def test_drivers_killed_while_a_group_starts(tmp_path, longer, undisturbed_longer, seed):
    rng, path = random.Random(200 + seed), tmp_path / "run"
    for number, name in enumerate((*STARTING, "RayTrainWorker")):
        with searching(path, None if number else longer, "--workers", "2") as search:
            wait_for_a_process(search, name, ())
            time.sleep(rng.uniform(0, 1))
            search.end(signal.SIGKILL)
        assert every_file_is_readable(path)
    with searching(path, None, "--workers", "2") as search:
        assert search.process.wait(240) == 0, search.told
    no_row_is_lost_or_doubled(path, undisturbed_longer)
    assert_same_answer(answer(path), answer(undisturbed_longer))


@pytest.mark.parametrize("name", ["TrainController", "RayTrainWorker"])
def test_a_node_lost_while_a_group_starts_leaves_the_search_to_the_other(tmp_path, longer, undisturbed_longer, name):
    rng, path = random.Random(name), tmp_path / "run"
    with two_nodes() as (cluster, env):
        mine = env | {"PRUNEPEFT_TEST": environment()["PRUNEPEFT_TEST"], "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
        with searching(path, longer, "--workers", "2", "--address", cluster["address"], env=mine) as search:
            # the nodes' processes, and so the workers, have a mark of their own
            search.wait_until(lambda: f"ray::{name}" in " ".join(processes(env["PRUNEPEFT_TEST"]).values()))
            time.sleep(rng.uniform(0, 1))
            kill(cluster["raylets"][1:])
            assert search.process.wait(240) == 0, search.told
            assert finished_twice(search.told) == []
    no_row_is_lost_or_doubled(path, undisturbed_longer)
    assert_same_answer(answer(path), answer(undisturbed_longer))


@pytest.mark.parametrize("seed", range(3))
def test_drivers_killed_in_every_phase(tmp_path, longer, undisturbed_longer, before, seed):
    rng, path = random.Random(seed), tmp_path / "run"
    for number, phase in enumerate(PHASES):
        with searching(path, None if number else longer, "--workers", str(rng.choice([1, 2]))) as search:
            wait_for_random_moment(search, before, phase, rng)
            search.end(signal.SIGKILL)
        assert every_file_is_readable(path)
    with searching(path, None, "--workers", "2") as search:
        assert search.process.wait(180) == 0, search.told
        assert finished_twice(search.told) == []
    no_row_is_lost_or_doubled(path, undisturbed_longer)
    assert_same_answer(answer(path), answer(undisturbed_longer))


@pytest.mark.parametrize("phase", PHASES)
def test_a_node_that_is_lost_leaves_the_search_to_the_other(tmp_path, longer, undisturbed_longer, before, phase):
    rng, path = random.Random(phase), tmp_path / "run"
    with two_nodes() as (cluster, env):
        mine = env | {"PRUNEPEFT_TEST": environment()["PRUNEPEFT_TEST"], "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
        arguments = ("--workers", "2", "--address", cluster["address"])
        with searching(path, longer, *arguments, env=mine) as search:
            wait_for_random_moment(search, before, phase, rng)
            kill(cluster["raylets"][1:])
            assert search.process.wait(240) == 0, search.told
            assert "the cluster has only 1 CPU left: continuing with 1" in search.told
            assert finished_twice(search.told) == []
    no_row_is_lost_or_doubled(path, undisturbed_longer)
    assert_same_answer(answer(path), answer(undisturbed_longer))


def test_a_search_whose_head_node_is_lost_is_resumed_elsewhere(tmp_path, longer, undisturbed_longer, before):
    path = tmp_path / "run"
    with two_nodes() as (cluster, env):
        mine = env | {"PRUNEPEFT_TEST": environment()["PRUNEPEFT_TEST"]}
        with searching(path, longer, "--workers", "2", "--address", cluster["address"], env=mine) as search:
            wait_for_random_moment(search, before, "round", random.Random(0))
            kill(cluster["raylets"][:1])
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert search.process.wait(90) != 0, search.told
    assert every_file_is_readable(path)
    with searching(path, None, "--workers", "2") as search:
        assert search.process.wait(180) == 0, search.told
    no_row_is_lost_or_doubled(path, undisturbed_longer)
    assert_same_answer(answer(path), answer(undisturbed_longer))


def test_a_worker_that_hangs_is_noticed_and_replaced(tmp_path, tiny_bert, small_task, undisturbed_longer, before):
    spec, path = longer_spec(tiny_bert, small_task, "execution.hang_seconds=8"), tmp_path / "run"
    with searching(path, spec, "--workers", "2") as search:
        wait_for_random_moment(search, before, "round", random.Random(0))
        (stopped, *_) = search.workers()
        os.kill(stopped, signal.SIGSTOP)
        assert search.process.wait(240) == 0, search.told
        assert "has made no step for 8 s and is killed" in search.told
        assert "; restart " in search.told
    assert restarts(path) >= 1
    no_row_is_lost_or_doubled(path, undisturbed_longer)
    assert_same_answer(answer(path), answer(undisturbed_longer))
