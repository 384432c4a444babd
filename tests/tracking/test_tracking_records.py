"""What is read of a run for trackers, with values worked out by hand."""

from datetime import timedelta

import pytest
from tracking_fakes import FILLED, MODEL, NOW, STUDY, TASK, RunFake, whole_search

from prunepeft_ray.jobs import Epoch
from prunepeft_ray.results import RunFolder
from prunepeft_ray.tracking import Records


def read(run):
    records = Records(RunFolder.open(run.folder.path))
    records.look()
    return records


def of_study(records, method, seed):
    return next(s for s in records.searches.values() if (s.tags["method"], s.tags["seed"]) == (method, str(seed)))


def test_a_search_is_named_after_its_folder_and_carries_its_settings(tmp_path):
    (search,) = read(RunFake(tmp_path / "demo")).searches.values()
    assert (search.name, search.run) == ("demo", "demo")
    assert search.tags == {"method": "prunepeft", "task": TASK, "model": MODEL, "seed": "5"}
    assert search.config["budget"] == "1%"
    assert search.config["training"]["epochs"] == 20


def test_a_study_has_all_its_searches_with_settings_of_their_own(tmp_path):
    searches = list(read(RunFake(tmp_path / "study", STUDY)).searches.values())
    assert [search.name for search in searches] == [
        f"{method}, {TASK}, {MODEL}, seed {seed}" for seed in (0, 1) for method in ("random-search", "prunepeft")
    ]
    assert {search.run for search in searches} == {"study"}
    assert len({search.key for search in searches}) == 4
    assert searches[2].config["seed"] == 1
    assert searches[2].config["method"]["name"] == "random-search"
    assert searches[2].config["limits"]["evaluations"] == 20


def test_a_job_has_its_epochs_metrics_and_costs(tmp_path):
    run = RunFake(tmp_path / "demo")
    run.job("final", 0.75, test={"accuracy": 0.625})
    records = read(run)
    (job,) = records.jobs()
    assert (job.label, job.kind, job.status, job.finished) == ("final 1", "final", "done", NOW + timedelta(minutes=1))
    assert job.results == {
        "dev/accuracy": 0.75,
        "dev/loss": 0.25,
        "test/accuracy": 0.625,
        "parameters": 900,
        "cost/examples": 800,
        "cost/epochs": 2,
        "cost/flops": 4e9,
        "cost/device_seconds": 120,
        "cost/wall_seconds": 60,
        "cost/peak_memory_bytes": 1e6,
    }
    assert job.config["job_seed"] == 1
    assert job.config["train_size"] is None
    assert [(step.number, step.at - NOW, dict(step.values)) for step in records.epochs(job)] == [
        (1, timedelta(seconds=20), {"train/loss": 0.75, "dev/accuracy": 0.5, "dev/loss": 0.5}),
        (2, timedelta(seconds=50), {"train/loss": 0.25, "dev/accuracy": 0.75, "dev/loss": 0.25}),
    ]


def test_epochs_never_end_after_their_job_where_it_was_taken_up_again(tmp_path):
    run = RunFake(tmp_path / "demo")
    run.job(epochs=(Epoch(1, 0.5, {}, 500.0), Epoch(2, 0.5, {}, 20.0)), restarts=1)
    records = read(run)
    (job,) = records.jobs()
    assert [step.at for step in records.epochs(job)] == [job.finished, job.finished]


def test_costs_add_up_and_the_best_within_the_budget_is_kept(tmp_path):
    run = RunFake(tmp_path / "demo")
    run.job("round", 0.9, parameters=2000)
    run.job("candidate", 0.5)
    run.job("candidate", 0.95, parameters=1001)
    run.job("candidate", 0.75, parameters=1000)
    run.job("candidate", 0.625)
    run.job("candidate", 0.99, status="failed", reason="loss is not finite")
    records = read(run)
    steps = records.steps(*records.searches.values())
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.values["search/jobs"] for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.values.get("search/best_dev") for step in steps] == [None, 0.5, 0.5, 0.75, 0.75, 0.75]
    assert [step.values.get("search/dev") for step in steps] == [0.9, 0.5, 0.95, 0.75, 0.625, None]
    costs = ("jobs", "epochs", "examples", "flops", "device_seconds")
    assert [steps[-1].values[f"search/{name}"] for name in costs] == [6, 12, 4800, 24e9, 720]


def test_a_search_has_an_outcome_once_its_answer_is_there(tmp_path):
    run = RunFake(tmp_path / "demo")
    run.job("round", 0.5)
    records = read(run)
    (search,) = records.searches.values()
    assert records.outcome(search) is None
    run.job("final", 0.75, test={"accuracy": 0.625})
    run.finish()
    records.look()
    outcome = records.outcome(search)
    assert (outcome.step, outcome.at, outcome.status) == (2, NOW + timedelta(minutes=2), "done")
    assert outcome.results == {"parameters": 900, "dev/accuracy": 0.75, "dev/loss": 0.25, "test/accuracy": 0.625}
    assert outcome.architecture["slots"] == FILLED.to_dict()["slots"]


def test_a_job_that_two_searches_ask_for_is_one_job_and_counts_for_both(tmp_path):
    run = RunFake(tmp_path / "study", STUDY)
    shared = run.job("candidate", 0.5, method="random-search", seed=0)
    own = run.job("candidate", 0.75, method="prunepeft", seed=0)
    run.ask("random-search", 0, 0, shared, "candidate")
    run.ask("prunepeft", 0, 0, own, "candidate")
    run.ask("prunepeft", 0, 1, shared, "candidate")
    records = read(run)
    assert [job.search.tags["method"] for job in records.jobs()] == ["random-search", "prunepeft"]
    first, second = of_study(records, "random-search", 0), of_study(records, "prunepeft", 0)
    assert [step.values["search/epochs"] for step in records.steps(first)] == [2]
    assert [step.values["search/epochs"] for step in records.steps(second)] == [2, 4]
    assert [step.values["search/dev"] for step in records.steps(second)] == [0.75, 0.5]


def test_a_search_is_charged_once_for_a_job_that_it_asks_for_twice(tmp_path):
    run = RunFake(tmp_path / "study", STUDY)
    job_id = run.job("candidate", method="random-search", seed=0)
    other = run.job("candidate", method="random-search", seed=0)
    for position, asked in enumerate((job_id, job_id, other)):
        run.ask("random-search", 0, position, asked, "candidate")
    records = read(run)
    steps = records.steps(of_study(records, "random-search", 0))
    assert [(step.number, step.values["search/epochs"]) for step in steps] == [(1, 2), (2, 4)]


def test_a_search_of_a_study_ends_with_the_mean_of_its_retrainings(tmp_path):
    run = RunFake(tmp_path / "study", STUDY)
    finals = [run.job("final", test={"accuracy": value}, method="prunepeft", seed=1) for value in (0.5, 0.75)]
    run.ask("prunepeft", 1, 0, finals[0], "final")
    run.end("prunepeft", 1)
    run.end("prunepeft", 0, status="failed", reason="over budget", architecture="", parameters=0)
    records = read(run)
    search = of_study(records, "prunepeft", 1)
    assert records.outcome(search).results["test/accuracy"] == 0.5
    run.ask("prunepeft", 1, 1, finals[1], "final")
    records.look()
    outcome = records.outcome(search)
    assert (outcome.step, outcome.results["test/accuracy"], outcome.results["evaluations"]) == (2, 0.625, 3)
    assert outcome.architecture == FILLED.to_dict()
    # nothing was trained for it
    assert records.outcome(of_study(records, "prunepeft", 0)) is None


def test_looking_at_one_job_reads_it_and_what_its_search_was_told(tmp_path, monkeypatch):
    run = RunFake(tmp_path / "study", STUDY)
    records = read(run)
    ids = [run.job("candidate", method="random-search", seed=0) for _ in range(2)]
    run.ask("random-search", 0, 0, ids[0], "candidate")
    monkeypatch.setattr("prunepeft_ray.results.store.names", lambda folder: pytest.fail("all files were looked at"))
    assert records.look_at(ids[1]).id == ids[1]
    assert len(records.steps(of_study(records, "random-search", 0))) == 1
    run.ask("random-search", 0, 1, ids[1], "candidate")
    assert records.look_at(ids[1]).id == ids[1]
    assert len(records.steps(of_study(records, "random-search", 0))) == 2


def test_a_job_that_has_merely_stopped_is_none(tmp_path):
    assert read(whole_search(tmp_path / "demo")).look_at("0123456789abcdef") is None
