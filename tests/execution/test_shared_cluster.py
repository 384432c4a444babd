"""Several runs on one cluster of several nodes, each a process of its own, as several people would start them."""

import os
import signal

import pytest
from chaos import finished_twice, let_join, longer_spec, processes, running, two_nodes
from execution_toys import answer, assert_same_answer, job_ids
from study_toys import assert_same_study, study_answer, study_here, write_study

from prunepeft_ray.config import dump_yaml
from prunepeft_ray.results import ResultsStore


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes of a CPU each, for all tests that leave it as it is."""
    with two_nodes() as found:
        yield found


def candidates(tmp_path, model, task, number):
    """A study of that many jobs of a second, and one."""
    return write_study(
        tmp_path / f"{number}.yaml",
        model,
        task,
        methods=["random-search"],
        limits={"evaluations": number},
        candidate={"epochs": 20},
    )


def workers_on(nodes, name):
    """Pids of a cluster's actors, by their name."""
    found = processes(nodes[1]["PRUNEPEFT_TEST"])
    return [pid for pid, command in found.items() if command.startswith(f"ray::{name}")]


def spans(path):
    """When the jobs of a run ran: (start, end) of each."""
    jobs = ResultsStore(path / "results").read("jobs")
    return sorted(zip(jobs.started_at, jobs.finished_at, strict=True))


def at_once(spans):
    """Most jobs that ran at the same time."""
    times = sorted(event for start, end in spans for event in ((end, -1), (start, 1)))
    return max(sum(change for _, change in times[: n + 1]) for n in range(len(times)))


@pytest.mark.slow
def test_studies_share_a_cluster_and_one_that_finds_no_room_says_what_it_waits_for(
    nodes, tmp_path, tiny_bert, small_task
):
    long, short = (candidates(tmp_path, tiny_bert, small_task, number) for number in (200, 3))
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    with running(nodes, "study", long, one) as first:
        first.wait_until(lambda: len(job_ids(one)) >= 2)
        with running(nodes, "study", long, two, priority=2) as second:
            second.wait_until(lambda: len(job_ids(two)) >= 1)
            both = len(job_ids(one)), len(job_ids(two))
            second.wait_until(lambda: len(job_ids(one)) > both[0] and len(job_ids(two)) > both[1])
            with running(nodes, "study", short, three) as third:
                third.wait_until(lambda: "waiting" in third.told)
                assert (
                    "waiting for 1 CPU: one (priority 0) holds 1 of the cluster's 2 CPUs, two (priority 2) 1\n"
                    in third.told
                )
                # no two on one folder
                with running(nodes, "study", long, one, job="another") as other:
                    assert other.process.wait(60) == 2
                    assert f"{one} has been working on {first.process.pid}" in other.told
                assert job_ids(three) == set()
                assert second.end(signal.SIGTERM) == 143, second.told
                assert third.process.wait(120) == 0, third.told
        # who is left has all again
        alone = len(job_ids(one))
        first.wait_until(lambda: len(job_ids(one)) > alone and at_once(spans(one)[alone:]) == 2)
        assert first.end(signal.SIGTERM) == 143, first.told
    assert at_once(spans(two)) == at_once(spans(three)) == 1
    assert_same_study(three, study_answer(study_here(short, tmp_path / "here")))


@pytest.mark.slow
def test_a_study_keeps_to_its_limits_and_outlives_the_arbiter(nodes, tmp_path, tiny_bert, small_task):
    path, short = tmp_path / "run", candidates(tmp_path, tiny_bert, small_task, 8)
    with running(nodes, "study", short, path, cpus=1) as study:
        study.wait_until(lambda: len(job_ids(path)) >= 2)
        (arbiter,) = workers_on(nodes, "Arbiter")
        os.kill(arbiter, signal.SIGKILL)
        study.wait_until(lambda: workers_on(nodes, "Arbiter") not in ([], [arbiter]))
        assert study.process.wait(120) == 0, study.told
    assert at_once(spans(path)) == 1
    assert len(job_ids(path)) == 9


@pytest.fixture(scope="module")
def longer(tiny_bert, small_task):
    """A search that lasts a minute or so."""
    epochs = ("warmup.epochs=40", "pruning.round_epochs=40", "training.epochs=250", "training.patience=250")
    return longer_spec(tiny_bert, small_task, *epochs)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_uses_a_node_that_joins_and_makes_way_for_others(
    tmp_path, tiny_bert, small_task, longer, undisturbed_longer
):
    long, config = candidates(tmp_path, tiny_bert, small_task, 200), tmp_path / "search.yaml"
    config.write_text(dump_yaml(longer))
    one, two, path = (tmp_path / name for name in ("one", "two", "run"))
    with two_nodes() as nodes, running(nodes, "study", long, one) as first:
        first.wait_until(lambda: len(job_ids(one)) >= 1)
        with running(nodes, "search", config, path, workers=2, priority=1) as search:
            search.wait_until(search.has_checkpoint)
            assert "starting 1 CPU worker of 2: no room for more at the moment\n" in search.told
            let_join(nodes[0], num_cpus=1)
            search.wait_until(lambda: "continuing with 2 workers: a node has joined\n" in search.told)
            search.wait_until(lambda: len(workers_on(nodes, "RayTrainWorker")) == 2)
            with running(nodes, "study", long, two, priority=1) as second:
                search.wait_until(lambda: "continuing with 1 worker: others need their share\n" in search.told)
                second.wait_until(lambda: len(job_ids(two)) >= 2)
                assert second.end(signal.SIGTERM) == 143, second.told
            search.wait_until(lambda: "continuing with 2 workers: others need less\n" in search.told)
            assert search.process.wait(240) == 0, search.told
    assert finished_twice(search.told) == []
    assert_same_answer(answer(path), answer(undisturbed_longer))
