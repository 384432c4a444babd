"""MLflow's own client finds what was logged."""

import json
import os
import subprocess
import sys

import pytest
from mlflow import MlflowClient, artifacts
from mlflow.entities import ViewType
from tracking_fakes import NOW, STUDY, RunFake, place, whole_search

from prunepeft_ray.tracking import Place, track
from prunepeft_ray.tracking.mlflow import MLflow


def runs(run, view=ViewType.ACTIVE_ONLY, experiment="prunepeft"):
    """The runs of a folder: searches, and jobs in the order in which they began."""
    client = MlflowClient()
    found = client.get_experiment_by_name(experiment)
    tag = f"tags.`prunepeft.run_id` = '{Place(run.folder).identity}'"
    all_of_it = client.search_runs([found.experiment_id], tag, view, order_by=["attributes.start_time"])
    jobs = [one for one in all_of_it if "prunepeft.job" in one.data.tags]
    return [one for one in all_of_it if one not in jobs], jobs


def history(run, metric):
    return [(m.step, m.value, m.timestamp) for m in MlflowClient().get_metric_history(run.info.run_id, metric)]


def after(seconds):
    return int(NOW.timestamp() + seconds) * 1000


def artifact(run, name):
    return artifacts.load_text(f"{run.info.artifact_uri}/{name}")


def test_a_search_is_a_run_and_each_job_nested_in_it(tmp_path):
    run = whole_search(tmp_path / "demo")
    track(run.folder, ["mlflow"])
    (search,), jobs = runs(run)
    assert search.info.run_name == "demo"
    assert search.info.status == "FINISHED"
    assert [job.info.run_name for job in jobs] == ["warmup 1", "round 2", "final 3"]
    assert {job.data.tags["mlflow.parentRunId"] for job in jobs} == {search.info.run_id}
    assert [job.data.tags["kind"] for job in jobs] == ["warmup", "round", "final"]
    assert [(job.info.start_time, job.info.end_time) for job in jobs] == [
        (after(0), after(60)),
        (after(60), after(120)),
        (after(120), after(180)),
    ]


def test_a_job_has_its_epochs_as_steps_and_its_results(tmp_path):
    run = whole_search(tmp_path / "demo")
    track(run.folder, ["mlflow"])
    job = runs(run)[1][2]
    assert history(job, "train/loss") == [(1, 0.75, after(140)), (2, 0.25, after(170))]
    assert job.data.metrics["dev/accuracy"] == 0.75
    assert job.data.metrics["test/accuracy"] == 0.625
    assert job.data.metrics["cost/peak_memory_bytes"] == 1e6
    assert job.data.params["epochs"] == "2"
    assert "train_size" not in job.data.params


def test_the_search_has_its_series_its_settings_and_its_result(tmp_path):
    run = whole_search(tmp_path / "demo")
    track(run.folder, ["mlflow"])
    (search,), _ = runs(run)
    assert history(search, "search/epochs") == [(1, 2, after(60)), (2, 4, after(120)), (3, 6, after(180))]
    assert search.data.params["training.learning_rates.PA"] == "0.0005"
    assert search.data.params["budget"] == "1%"
    assert search.data.metrics["test/accuracy"] == 0.625
    assert json.loads(artifact(search, "architecture.json"))["parameters"] == 900
    assert "within-kind" in artifact(search, "settings.yaml")
    assert {search.data.tags[name] for name in ("method", "model")} == {"prunepeft", "packaged:minilm"}


def test_only_what_is_ours_is_logged(tmp_path):
    run = whole_search(tmp_path / "demo")
    track(run.folder, ["mlflow"])
    (search,), jobs = runs(run)
    for one in (search, *jobs):
        foreign = {tag for tag in one.data.tags if tag.startswith("mlflow.")}
        assert foreign <= {"mlflow.runName", "mlflow.parentRunId"}


def test_nobody_but_the_users_own_server_is_told_anything_and_standard_output_is_left_alone():
    code = (
        "import prunepeft_ray.tracking.mlflow\n"
        "from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT as quiet\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "assert quiet.get()\n"
        "assert get_telemetry_client() is None\n"
    )
    # whatever else tests or continuous integration say
    names = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_resumed_search_logs_nothing_twice(tmp_path):
    run = RunFake(tmp_path / "demo")
    run.job()
    track(run.folder, ["mlflow"])
    (search,), _ = runs(run)
    assert search.info.status == "KILLED"
    run.job("final", 0.75)
    run.finish()
    for _ in range(2):
        track(run.folder, ["mlflow"])
    (search,), jobs = runs(run)
    assert search.info.status == "FINISHED"
    assert [value[:2] for value in history(search, "search/jobs")] == [(1, 1), (2, 2)]
    assert [value[:2] for value in history(search, "parameters")] == [(2, 900)]
    assert len(jobs) == 2


def test_a_job_that_a_killed_process_left_unfinished_is_logged_again(tmp_path, monkeypatch):
    run = RunFake(tmp_path / "demo")
    run.job()
    with monkeypatch.context() as patch, pytest.raises(pytest.fail.Exception):
        patch.setattr(MLflow, "_end", lambda *args: pytest.fail("killed"))
        track(run.folder, ["mlflow"])
    track(run.folder, ["mlflow"])
    assert [job.info.status for job in runs(run)[1]] == ["FINISHED"]
    assert len(runs(run, ViewType.DELETED_ONLY)[1]) == 1


def test_what_failed_is_marked_as_failed_with_its_reason(tmp_path):
    run = RunFake(tmp_path / "study", STUDY)
    job = run.job(method="prunepeft", seed=0, status="failed", reason="loss is not finite", metrics={})
    run.ask("prunepeft", 0, 0, job)
    run.end("prunepeft", 0, status="failed", reason="round 1 failed", architecture="", parameters=0)
    track(run.folder, ["mlflow"])
    (search,), (job,) = runs(run)
    assert (search.info.status, search.data.tags["reason"]) == ("FAILED", "round 1 failed")
    assert (job.info.status, job.data.tags["reason"]) == ("FAILED", "loss is not finite")


def test_the_experiment_is_the_one_that_the_user_names(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    run = RunFake(tmp_path / "demo")
    run.job()
    track(run.folder, ["mlflow"])
    assert len(runs(run, experiment="mine")[1]) == 1
    assert MLflow(place(run)).where == "experiment 'mine'"


def test_runs_of_equal_settings_in_two_folders_are_two(tmp_path):
    one, other = (whole_search(tmp_path / name) for name in ("one", "other"))
    for run in (one, other):
        track(run.folder, ["mlflow"])
    assert [search.info.run_name for run in (one, other) for search in runs(run)[0]] == ["one", "other"]
    assert [len(runs(run)[1]) for run in (one, other)] == [3, 3]
