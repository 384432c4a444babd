"""Estimates of what a study takes: from a run's jobs, and from short jobs that are trained for the purpose."""

import json

import pytest
from studies import SMALL, ignore, study_here

from prunepeft_ray.backbones import load_outline
from prunepeft_ray.errors import InputError
from prunepeft_ray.execution.simulation.estimate import estimate_study
from prunepeft_ray.execution.simulation.footprint import TERMS, footprint, measure_workload, planned_counts
from prunepeft_ray.execution.simulation.measurements import jobs_of_run
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.study import StudySpec
from prunepeft_ray.tasks import load_task


@pytest.fixture(scope="module")
def spec(tiny_bert, small_task):
    axes = {"methods": ["prunepeft", "random-search"], "tasks": [str(small_task)], "models": [tiny_bert]}
    return StudySpec.model_validate(
        SMALL | axes | {"limits": {"evaluations": 2}, "pruning": {"rounds": 1, "criteria": ["weight"]}}
    )


@pytest.fixture(scope="module")
def run(spec, tmp_path_factory):
    """A finished run, and the jobs that were trained."""
    return study_here(spec, tmp_path_factory.mktemp("measured") / "run")


def test_the_amounts_of_work_of_finished_jobs_are_those_that_are_predicted_for_them(spec, run):
    folder, trained = run
    (model,), (task,) = spec.models, spec.tasks
    workload = measure_workload(model, load_outline(model), load_task(task), spec.training.max_length)
    store = ResultsStore(folder.results)
    predicted = {}
    for job in (work.job for work in trained):
        counts = planned_counts(job, workload, 1)
        parameters = store.find(job.id).parameters
        work = footprint(job.architecture, job.collect, job.training.micro_batches, parameters, counts, workload)
        predicted[job.id] = work
    measured = dict(zip(store.read("jobs").job_id, jobs_of_run(folder, ignore), strict=True))
    assert {job_id: one.footprint for job_id, one in measured.items()} == predicted
    assert all(one.seconds >= store.find(job_id).cost.wall_seconds for job_id, one in measured.items())


def test_interrupted_and_failed_jobs_are_left_out(run, monkeypatch):
    folder, _ = run
    rows = ResultsStore(folder.results).read("jobs")
    rows.loc[0, "restarts"] = 1
    rows.loc[1, "status"] = "failed"
    monkeypatch.setattr(ResultsStore, "read", lambda self, table: rows)
    assert len(jobs_of_run(folder, ignore)) == len(rows) - 2


def test_an_estimate_for_several_numbers_of_devices(spec, run):
    plain = estimate_study(spec, [1, 4], run[0].path, ignore).to_dict()
    assert plain["searches"] == 2
    assert plain["failed"] == {}
    one, four = plain["runs"]
    assert (one["devices"], four["devices"]) == (1, 4)
    # a round or two candidates, and a retraining
    assert {label: method["jobs"] for label, method in one["methods"].items()} == {"prunepeft": 2, "random-search": 3}
    assert one["limited_by"] == "devices"
    assert 0 < four["seconds"] < one["seconds"]
    assert 0 < four["utilisation"] < one["utilisation"] <= 1
    assert plain["durations"]["measured_jobs"] == 5
    json.dumps(plain)


def test_without_a_run_a_few_short_jobs_are_measured(spec):
    said = []
    estimate = estimate_study(spec, [2], None, said.append)
    assert "measuring 8 short jobs of" in said[-2].text
    assert said[-1].text == "simulating 2 devices"
    assert estimate.costs.source == "short jobs on this machine"
    assert estimate.costs.jobs == 8
    assert list(estimate.costs.named()) == list(TERMS)
    assert estimate.simulations[0].makespan > 0


def test_a_run_without_finished_jobs_is_an_error(spec, tmp_path):
    empty = RunFolder.create(tmp_path / "empty", spec)
    with pytest.raises(InputError, match="there are no finished jobs to take durations from"):
        estimate_study(spec, [1], empty.path, ignore)


def test_a_folder_without_a_run_is_an_error_before_anything_is_loaded(spec, tmp_path):
    with pytest.raises(InputError, match="does not contain a run"):
        estimate_study(spec.model_copy(update={"models": ("/nowhere",)}), [1], tmp_path, ignore)
