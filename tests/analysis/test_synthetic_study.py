"""The made-up study is one that all readers take for real."""

import pytest
from synthetic_study import METHODS, TASKS, make_study

from prunepeft_ray.analysis import open_results
from prunepeft_ray.results import TABLES

JOBS = 800


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return open_results(make_study(tmp_path_factory.mktemp("made") / "study", JOBS, seeds=2, singles=5).path)


def test_all_tables_are_read_whole_and_fit_together(results):
    assert all(len(results[table]) for table in TABLES)
    assert results.damaged == ()
    jobs = results["jobs"]
    assert len(jobs) == len(set(jobs.job_id)) == len(results["requests"]) == JOBS
    for table in ("epochs", "scores", "architectures", "decisions", "requests"):
        assert set(results[table].job_id) <= set(jobs.job_id)
    assert results["architectures"].groupby("job_id").size().to_dict() == jobs.set_index("job_id").slots.to_dict()
    assert set(results["decisions"].run_id) <= set(jobs.run_id)
    assert not results["decisions"].duplicated(["run_id", "index", "slot"]).any()


def test_it_has_what_real_studies_have(results):
    jobs = results["jobs"]
    assert set(jobs.kind) == {"warmup", "round", "candidate", "final"}
    assert 0 < (jobs.status == "failed").sum() < 0.05 * JOBS
    assert jobs.explode("workers").workers.nunique() > 2
    assert (jobs.finished_at > jobs.started_at).all()
    busy = jobs.explode("workers").sort_values(["workers", "started_at"])
    overlap = busy.started_at < busy.groupby("workers").finished_at.shift()
    assert not overlap.any(), "a worker trains one job at a time"


def test_its_methods_can_be_compared(results):
    methods = results["methods"]
    assert len(methods[methods.role == "method"]) == len(METHODS) * len(TASKS)
    assert methods.missing.sum() == 0
    assert methods[methods.role == "method"].failed.sum() == 1
    assert methods.test_mean.between(0.4, 0.9).all()
    assert len(results["best_so_far"]) > JOBS / 10
