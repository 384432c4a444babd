from datetime import timedelta

import pandas as pd
import pytest
from comparison_fakes import COST, MODEL, NOW, RUN, TASK
from pages import make_study

from prunepeft_ray.analysis import open_results
from prunepeft_ray.analysis.charges import active_seconds
from prunepeft_ray.architecture import Architecture
from prunepeft_ray.config import ModulesConfig, TrainingConfig
from prunepeft_ray.jobs import TrainJob, TrainResult, Work
from prunepeft_ray.report.sections import time as module
from prunepeft_ray.report.sections.time import time_section
from prunepeft_ray.results import ResultsStore, RunContext


def add(path, seed, workers, begin, end, **changes):
    """Commit a job that ran from one second to another."""
    start, stop = (NOW + timedelta(seconds=second) for second in (begin, end))
    job = TrainJob(MODEL, "m", TASK, "t", "accuracy", Architecture(), ModulesConfig(), TrainingConfig(), seed)
    values = {"parameters": 1, "head_parameters": 1, "epochs": (), "best_epoch": 1, "metrics": {}, "cost": COST}
    context = RunContext(RUN, "whoever", TASK, MODEL, 0, 1000, 100_000, 400, {}, {})
    work = Work(job, "round", "a round")
    ResultsStore(path / "results").commit(context, work, TrainResult(**values | changes), start, stop, workers)


@pytest.fixture
def study(tmp_path):
    """A study whose own jobs, which name no workers, are gone."""
    make_study(tmp_path / "study")
    for file in (tmp_path / "study" / "results").rglob("*.parquet"):
        file.unlink()
    return tmp_path / "study"


def test_workers_are_named_by_node_in_the_order_in_which_they_began(study):
    add(study, 1, ["b:7"], 5, 6)
    add(study, 2, ["a:9"], 0, 1)
    add(study, 3, ["a:4"], 2, 3)
    add(study, 4, ["a:9"], 3, 4)
    jobs = open_results(study)["worker_jobs"]
    assert list(jobs.worker) == ["node 1, worker 1", "node 1, worker 2", "node 1, worker 1", "node 2, worker 1"]


def test_a_job_of_several_workers_stands_once_for_each(study):
    add(study, 1, ["a:1", "a:2"], 0, 4)
    jobs = open_results(study)["worker_jobs"]
    assert list(jobs.worker) == ["node 1, worker 1", "node 1, worker 2"]
    assert jobs.job_id.nunique() == 1


def test_workers_are_measured_by_the_time_in_which_any_of_them_ran(study):
    add(study, 1, ["a:1"], 0, 10)
    add(study, 2, ["a:2"], 0, 4)
    add(study, 3, ["a:1"], 1000, 1010)  # after an interruption
    frame = open_results(study)["utilisation"].set_index("worker")
    assert list(frame.busy_seconds) == [20.0, 4.0]
    assert list(frame.busy_share) == [1.0, 0.2]
    assert active_seconds(open_results(study)["worker_jobs"]) == 20.0


def test_time_is_charged_by_part_and_deciding_beside_it(tmp_path):
    spent = make_study(tmp_path / "study")["time_spent"]
    own = spent[(spent.method == "random-search") & (spent.task == "packaged:movie")].set_index("part")
    # two searches of three candidates and two retrainings of 6 device-seconds, half a second of thought each
    assert own.seconds.to_dict() == {"candidate": 36.0, "final": 24.0, "deciding": 1.0}
    assert own.jobs.to_dict() == {"candidate": 6, "final": 4, "deciding": 0}


def test_jobs_of_which_nobody_knows_the_worker_are_said_to_be_missing(tmp_path):
    section = time_section(make_study(tmp_path / "study"))
    assert "the earlier version" in section.missing[0]
    assert [block.key for block in section.blocks] == ["time-spent", "time-spent"]


def test_bars_begin_and_end_with_their_jobs(study):
    add(study, 1, ["a:1"], 60, 90)
    (line, *_) = time_section(open_results(study)).blocks
    (bars,) = line.plot.data
    assert list(bars.base) == ["2026-01-01 00:01:00.000000"]
    assert list(bars.x) == [30_000.0]


def test_of_very_many_jobs_the_share_of_time_is_shown(study, monkeypatch):
    monkeypatch.setattr(module, "BARS", 1)
    monkeypatch.setattr(module, "BINS", 4)
    add(study, 1, ["a:1"], 0, 4)
    add(study, 2, ["a:2"], 1, 3)
    (line, *_) = time_section(open_results(study)).blocks
    (heat,) = line.plot.data
    assert pd.DataFrame(heat.z).to_numpy().tolist() == [[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0]]


def test_failed_jobs_are_listed_with_their_reasons(study):
    add(study, 1, ["a:1"], 0, 1, status="failed", reason="out of memory", metrics={})
    table = next(block for block in time_section(open_results(study)).blocks if block.key == "failed-jobs")
    assert list(table.text.reason) == ["out of memory"]
    assert "including 1 failed job" in table.basis.marks
