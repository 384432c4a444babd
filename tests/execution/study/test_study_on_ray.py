"""Studies under real Ray Tune, really killed: every one ends like a study that ran undisturbed in one process."""

import os
import signal

import pytest
from chaos import SearchProcess, environment, every_file_is_readable, kill_all, two_nodes
from execution_toys import job_ids
from study_toys import assert_same_study, study_answer, study_here, write_study

from prunepeft_ray.execution import resume_study, start_study
from prunepeft_ray.study import load_study

FEW = {"methods": ["prunepeft", "optuna-tpe"], "limits": {"evaluations": 8}}
"""A study of some seconds."""


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_bert, small_task):
    return write_study(tmp_path_factory.mktemp("small") / "study.yaml", tiny_bert, small_task, **FEW)


@pytest.fixture(scope="module")
def expected_of_small(tmp_path_factory, small):
    """The answer of the small study when all runs in this process, one job after another."""
    return study_answer(study_here(small, tmp_path_factory.mktemp("here") / "run"))


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_bert, small_task):
    """A study of four methods, one of which learns from what it is told."""
    return write_study(tmp_path_factory.mktemp("study") / "study.yaml", tiny_bert, small_task)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, study):
    """The answer of that study, likewise."""
    return study_answer(study_here(study, tmp_path_factory.mktemp("here") / "run"))


def stamps(path):
    files = {id: path / "results" / "jobs" / f"{id}.parquet" for id in job_ids(path)}
    return {id: (file.stat().st_ino, file.stat().st_mtime_ns) for id, file in files.items()}


def test_a_killed_study_is_resumed_to_the_same_proposals_and_answer(cluster, tmp_path, small, expected_of_small):
    is_killed_and_resumed(tmp_path, small, expected_of_small)


@pytest.mark.slow
def test_a_killed_study_of_four_methods_is_resumed_likewise(cluster, tmp_path, study, expected):
    is_killed_and_resumed(tmp_path, study, expected)


def is_killed_and_resumed(tmp_path, study, expected):
    path, env, jobs = tmp_path / "run", environment(), len(expected["results"])
    driver = SearchProcess(
        path, ["compare", str(study), "--workers", "2", "--output", str(path)], tmp_path / "log", env
    )
    working = []

    def has_begun():
        working[:] = driver.workers("ResourceTrainable")
        return len(job_ids(path)) >= jobs // 6 and working

    try:
        # a worker first, which is replaced; then everything
        driver.wait_until(has_begun)
        os.kill(working[0], signal.SIGKILL)
        driver.wait_until(lambda: len(job_ids(path)) >= jobs // 3)
    finally:
        kill_all(env["PRUNEPEFT_TEST"])
        driver.process.wait(10)
    assert every_file_is_readable(path)
    there = stamps(path)
    assert jobs // 3 <= len(there) < jobs, driver.told

    events = []
    resume_study(path, events.append, lambda progress: None, workers=2)
    assert_same_study(path, expected)
    assert {id: stamp for id, stamp in stamps(path).items() if id in there} == there
    started = [event.job_id for event in events if event.type == "start"]
    assert sorted(started) == sorted(expected["results"].keys() - there)

    # a finished study is left as it is
    events.clear()
    resume_study(path, events.append, lambda progress: None, workers=2)
    assert events[-1].text == f"{path} is finished; there is nothing to run"
    assert_same_study(path, expected)


@pytest.mark.slow
def test_what_is_added_to_a_study_runs_alone_and_several_workers_share_a_job(cluster, tmp_path, tiny_bert, small_task):
    few, more = (
        write_study(
            tmp_path / f"{len(methods)}.yaml",
            tiny_bert,
            small_task,
            methods=methods,
            limits={"evaluations": 2},
            execution={"workers": 2, "cpus": 0.5},
        )
        for methods in (["random-search"], ["random-search", "uniform-lora"])
    )
    path = study_here(few, tmp_path / "run")
    there, events = stamps(path), []
    start_study(load_study(more), path, events.append, lambda progress: None)
    assert {id: stamp for id, stamp in stamps(path).items() if id in there} == there
    started = [event.job_id for event in events if event.type == "start"]
    assert sorted(started) == sorted(job_ids(path) - there.keys()) != []
    assert_same_study(path, study_answer(study_here(more, tmp_path / "here")))


def test_a_worker_lost_between_two_jobs_costs_no_job(
    cluster, tmp_path, tiny_bert, small_task, expected_of_small, monkeypatch
):
    from prunepeft_ray.execution.study import tune as tune_study

    study = write_study(tmp_path / "study.yaml", tiny_bert, small_task, execution={"max_failures": 0}, **FEW)
    mark, told = tmp_path / "died", []

    class DiesWhenItIsGivenAnotherJob(tune_study.JobTrial):
        def reset_config(self, new_config):
            if not mark.exists():
                mark.touch()
                os._exit(1)
            return super().reset_config(new_config)

    monkeypatch.setattr(tune_study, "JobTrial", DiesWhenItIsGivenAnotherJob)
    start_study(load_study(study), tmp_path / "run", told.append, lambda progress: None, workers=2)
    assert mark.exists()
    assert [event.text for event in told if "retry" in event.text] == []
    assert_same_study(tmp_path / "run", expected_of_small)


@pytest.mark.slow
def test_a_study_that_is_stopped_twice_ends_with_the_same_answer(tmp_path, study, expected):
    path = tmp_path / "run"
    for number, jobs in ((signal.SIGINT, 4), (signal.SIGTERM, 12)):
        driver = SearchProcess(
            path, ["compare", str(study), "--workers", "2", "--output", str(path)], tmp_path / "log", environment()
        )
        try:
            driver.wait_until(lambda jobs=jobs: len(job_ids(path)) >= jobs)
            assert driver.end(number) == 128 + number, driver.told
            assert "Traceback" not in driver.told
            assert "finished jobs and checkpoints are safe" in driver.told.splitlines()[-1]
        finally:
            driver.kill_all()
        assert every_file_is_readable(path)
    study_here(study, path)
    assert_same_study(path, expected)


@pytest.mark.slow
def test_two_studies_on_one_cluster_do_not_disturb_each_other(tmp_path, study, expected):
    with two_nodes() as (cluster, env):
        paths = [tmp_path / "one", tmp_path / "other"]
        drivers = [
            SearchProcess(
                path,
                ["compare", str(study), "--output", str(path), "--address", cluster["address"]],
                path.with_suffix(".log"),
                env | {"PRUNEPEFT_TEST": environment()["PRUNEPEFT_TEST"]},
            )
            for path in paths
        ]
        try:
            drivers[0].wait_until(lambda: len(job_ids(paths[0])) >= 3)
            # a node of the two is lost, and the studies go on with the other
            os.kill(cluster["raylets"][1], signal.SIGKILL)
            for driver in drivers:
                assert driver.process.wait(280) == 0, driver.told
        finally:
            for driver in drivers:
                driver.kill_all()
    for path in paths:
        assert_same_study(path, expected)
