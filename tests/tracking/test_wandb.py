"""What W&B keeps offline has what was logged, and nothing else."""

import json

import pytest
from tracking_fakes import STUDY, RunFake, whole_search
from wandb_files import wandb_runs

from prunepeft_ray.tracking import track
from prunepeft_ray.tracking.wandb import Wandb


def runs(run):
    return wandb_runs(run.folder.path / "wandb")


def test_jobs_and_the_search_are_runs_of_one_group(tmp_path):
    run = whole_search(tmp_path / "demo")
    track(run.folder, ["wandb"])
    found = {one.job_type: one for one in runs(run)}
    assert [(kind, one.name) for kind, one in sorted(found.items())] == [
        ("final", "final 3"),
        ("round", "round 2"),
        ("search", "demo"),
        ("warmup", "warmup 1"),
    ]
    assert {one.group for one in found.values()} == {"demo"}
    assert {one.project for one in found.values()} == {"prunepeft"}
    assert "task: packaged:movie" in found["search"].tags


def test_a_job_has_its_epochs_as_steps_and_its_results_in_the_summary(tmp_path):
    run = whole_search(tmp_path / "demo")
    track(run.folder, ["wandb"])
    job = next(one for one in runs(run) if one.job_type == "final")
    assert [(row["_step"], row["train/loss"], row["dev/accuracy"]) for row in job.history] == [
        (1, 0.75, 0.5),
        (2, 0.25, 0.75),
    ]
    assert (job.summary["test/accuracy"], job.summary["cost/device_seconds"]) == (0.625, 120)
    assert job.config["kind"] == "final"
    assert job.exit_code == 0


def test_the_search_has_its_series_its_settings_and_its_result(tmp_path):
    run = whole_search(tmp_path / "demo")
    track(run.folder, ["wandb"])
    search = next(one for one in runs(run) if one.job_type == "search")
    assert [(row["_step"], row["search/epochs"]) for row in search.history] == [(1, 2), (2, 4), (3, 6)]
    assert search.config["training"]["epochs"] == 20
    assert (search.summary["test/accuracy"], search.summary["status"]) == (0.625, "done")
    assert search.files == ("architecture.json",)


def test_environment_packages_and_output_are_not_logged(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SOME_TOKEN", "a-secret-of-mine")
    run = whole_search(tmp_path / "demo")
    track(run.folder, ["wandb"])
    assert all(one.files in ((), ("architecture.json",)) for one in runs(run))
    for file in (run.folder.path / "wandb").rglob("*"):
        if file.is_file():
            assert b"a-secret-of-mine" not in file.read_bytes(), file
    assert capsys.readouterr() == ("", "")


def test_a_resumed_search_logs_nothing_twice(tmp_path):
    run = RunFake(tmp_path / "demo")
    run.job()
    track(run.folder, ["wandb"])
    run.job("final", 0.75)
    run.finish()
    for _ in range(2):
        track(run.folder, ["wandb"])
    found = runs(run)
    assert sorted(one.name for one in found if one.job_type != "search") == ["final 2", "round 1"]
    first, second = (one for one in found if one.job_type == "search")
    # one run for W&B, which puts both parts together
    assert first.id == second.id
    assert [row["_step"] for part in (first, second) for row in part.history] == [1, 2]
    assert (first.exit_code, second.exit_code) == (1, 0)


def test_what_a_killed_process_logs_twice_is_one_run_all_the_same(tmp_path, monkeypatch):
    run = RunFake(tmp_path / "demo")
    run.job()
    with monkeypatch.context() as patch, pytest.raises(pytest.fail.Exception):
        patch.setattr(Wandb, "_keep", lambda self: pytest.fail("killed"))
        track(run.folder, ["wandb"])
    track(run.folder, ["wandb"])
    jobs = [one for one in runs(run) if one.job_type == "round"]
    assert len(jobs) == 2
    assert len({one.id for one in jobs}) == 1


def test_what_failed_is_marked_as_failed(tmp_path):
    run = RunFake(tmp_path / "study", STUDY)
    run.ask("prunepeft", 0, 0, run.job(method="prunepeft", seed=0, status="failed", reason="no memory", metrics={}))
    track(run.folder, ["wandb"])
    job = next(one for one in runs(run) if one.job_type == "round")
    assert (job.exit_code, job.summary["reason"]) == (1, "no memory")
    assert job.group == "study: prunepeft, packaged:movie, packaged:minilm, seed 0"


def test_the_project_is_the_one_that_the_user_names(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    run = RunFake(tmp_path / "demo")
    run.job()
    track(run.folder, ["wandb"])
    assert {one.project for one in runs(run)} == {"mine"}
    assert json.loads((run.folder.path / "tracking/wandb.json").read_text())["steps"] == {run.folder.run_id: 1}
