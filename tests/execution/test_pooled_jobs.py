"""Jobs that another run has finished: nothing is trained twice, nothing else changes, and costs stay those of then."""

import re
from dataclasses import replace

import pytest
import torch
from execution_toys import BUDGET, SETTINGS, answer, assert_same_answer, job_ids, make_spec, search_here
from studies import study_here

from prunepeft_ray.analysis import open_results, summarise
from prunepeft_ray.cli.progress import show_progress
from prunepeft_ray.cli.terminal import Terminal
from prunepeft_ray.config import load_spec
from prunepeft_ray.errors import InputError
from prunepeft_ray.execution import executor as executor_module
from prunepeft_ray.execution import start_search, start_study
from prunepeft_ray.execution.interruptions import StoppedError
from prunepeft_ray.execution.job_checkpoint import JobKeeper
from prunepeft_ray.execution.session import pool_of_run
from prunepeft_ray.execution.work_meter import WorkMeter
from prunepeft_ray.report import summary_tables, write_report
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.storage.paths import files_under
from prunepeft_ray.study import StudySpec


@pytest.fixture
def trained(monkeypatch):
    """Ids of the jobs that are really trained, in order."""
    ids, train = [], executor_module.train

    def counting(job, *args):
        ids.append(job.id)
        return train(job, *args)

    monkeypatch.setattr(executor_module, "train", counting)
    return ids


FEW = ("pruning.criteria=[weight, gradient]", "warmup.turns=1")
"""What makes a search of a few jobs."""


@pytest.fixture(scope="module")
def spec(tiny_bert, small_task):
    """A search of a few jobs."""
    return make_spec(tiny_bert, small_task, *FEW)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, spec):
    """The answer of that search without a pool."""
    return answer(search_here(spec, tmp_path_factory.mktemp("undisturbed") / "run").path)


@pytest.fixture(scope="module")
def first(tmp_path_factory, spec):
    """A search that fills a pool: its folder and the pool's."""
    root = tmp_path_factory.mktemp("first")
    search_here(spec, root / "run", pool=root / "pool")
    return root / "run", root / "pool"


def jobs_of(path):
    return ResultsStore(path / "results").read("jobs").set_index("job_id")


# --- searches


def test_filling_a_pool_changes_nothing(first, undisturbed):
    assert_same_answer(answer(first[0]), undisturbed)
    assert not jobs_of(first[0]).reused.any()


def test_a_second_run_trains_nothing_and_has_the_same_answer(first, undisturbed, spec, tmp_path, trained):
    search_here(spec, tmp_path / "run", pool=first[1])
    assert trained == []
    assert_same_answer(answer(tmp_path / "run"), undisturbed)
    assert jobs_of(tmp_path / "run").reused.all()
    # no worker has trained anything, which leaves some frames empty
    results = open_results(tmp_path / "run")
    assert len(results["utilisation"]) == 0
    write_report([results], tmp_path / "report.html")


def test_reused_jobs_cost_what_they_cost_then_and_take_no_time_now(first, spec, tmp_path):
    search_here(spec, tmp_path / "run", pool=first[1])
    then, now = jobs_of(first[0]), jobs_of(tmp_path / "run").loc[jobs_of(first[0]).index]
    for column in ("train_examples", "eval_examples", "steps", "flops", "device_seconds", "wall_seconds"):
        assert (then[column] > 0).any() and (now[column] == then[column]).all(), column
    assert (now.versions == then.versions).all() and (now.hardware == then.hardware).all()
    assert (now.started_at >= then.finished_at.max()).all()
    assert all(len(workers) == 0 for workers in now.workers)
    before, after = summarise_phases(first[0]), summarise_phases(tmp_path / "run")
    for phase in before:
        assert (after[phase].jobs, after[phase].examples, after[phase].epochs, after[phase].flops) == (
            (before[phase].jobs, before[phase].examples, before[phase].epochs, before[phase].flops)
        )
        assert (before[phase].reused, after[phase].reused) == (0, before[phase].jobs)
        assert after[phase].seconds < before[phase].seconds / 2


def summarise_phases(path):
    return {phase.name: phase for phase in summarise(RunFolder.open(path)).phases}


def test_the_terminal_tells_of_each_reused_job_and_the_summary_how_many(first, spec, tmp_path):
    log, table = (tmp_path / name for name in ("log", "table"))
    with log.open("w") as stream, show_progress(Terminal(file=stream, width=200)) as emit:
        folder = search_here(spec, tmp_path / "run", emit, pool=first[1])
    lines = [line for line in log.read_text().splitlines() if "reused from the pool" in line]
    assert len(lines) == len(job_ids(first[0]))
    assert re.match(r"final retraining: reused from the pool, cost as then: [\d,]+ examples in \d", lines[-1])
    with table.open("w") as stream:
        for part in summary_tables(summarise(folder)):
            Terminal(file=stream, width=100).print(part)
    assert "of the jobs, reused" in table.read_text()


def test_another_search_shares_the_jobs_that_coincide(first, tiny_bert, small_task, tmp_path, trained):
    # the same warm-up, and other rounds
    other = make_spec(tiny_bert, small_task, *FEW, "pruning.rounds=1")
    search_here(other, tmp_path / "run", pool=first[1])
    jobs = jobs_of(tmp_path / "run")
    assert set(jobs.index[~jobs.reused]) == set(trained)
    assert jobs.reused[jobs.kind == "warmup"].all()
    assert trained


def test_a_resumed_run_takes_what_others_have_finished_meanwhile(first, spec, tmp_path, trained):
    run = search_here(spec, tmp_path / "run", pool=None)
    (tmp_path / "run" / "architecture.json").unlink()
    jobs = run.results / "jobs"
    lost = sorted(jobs.glob("[!.]*.parquet"))[0]
    lost.unlink()
    # this run had trained on 16 examples of the job before it was stopped
    meter = WorkMeter(lost.stem, run.checkpoints)
    meter.begin(0)
    meter.advance(16)
    meter.leave()
    trained.clear()
    search_here(spec, tmp_path / "run", again=True, pool=first[1])
    assert trained == []
    row = jobs_of(tmp_path / "run").loc[lost.stem]
    assert row.reused and row.redone_examples == 16
    assert [file.suffix for file in run.checkpoints.iterdir()] == [".safetensors"]


# --- studies


def test_a_study_reuses_what_a_search_has_trained(first, tiny_bert, small_task, tmp_path, trained):
    spec = study_of(tiny_bert, small_task)
    study, handed_out = study_here(spec, tmp_path / "study", first[1])
    jobs = jobs_of(study.path)
    shared = job_ids(first[0]) & set(jobs.index)
    assert {"warmup", "round"} <= set(jobs.kind[jobs.reused])
    assert set(jobs.index[jobs.reused]) == shared
    assert set(trained) == {work.job.id for work in handed_out} - shared

    # another study on the same terms trains nothing; one without a pool trains everything, with the same results
    trained.clear()
    again, _ = study_here(spec, tmp_path / "again", first[1])
    assert trained == [] and jobs_of(again.path).reused.all()
    alone, _ = study_here(spec, tmp_path / "alone")
    assert set(trained) == set(jobs.index)
    stores = [ResultsStore(folder.results) for folder in (study, again, alone)]
    for job in jobs.index:
        found = [without_times(store.find(job)) for store in stores]
        assert found[0] == found[1] == found[2]


def study_of(model, task):
    values = {"model": model, "task": str(task), "budget": str(BUDGET)}
    # a search splits its batches into two parts, a study by itself into one
    recipe = load_spec(None, values, (*SETTINGS, *FEW, "training.micro_batches=2"))
    terms = recipe.model_dump(mode="json", include={"budget", "space", "warmup", "pruning", "training"})
    axes = {"methods": ["prunepeft", "random-search"], "tasks": [str(task)], "models": [model], "seeds": [0]}
    return StudySpec.model_validate(terms | axes | {"limits": {"evaluations": 3}})


def without_times(result):
    return replace(result, cost=None, epochs=[(epoch.train_loss, epoch.metrics) for epoch in result.epochs])


def test_a_search_trains_the_final_job_of_a_study_again_since_it_needs_its_weights(
    tiny_bert, small_task, spec, tmp_path, trained
):
    study_here(study_of(tiny_bert, small_task), tmp_path / "study", tmp_path / "pool")
    trained.clear()
    search_here(spec, tmp_path / "one", pool=tmp_path / "pool")
    jobs = jobs_of(tmp_path / "one")
    assert set(jobs.kind.loc[trained]) == {"final"}
    trained.clear()
    search_here(spec, tmp_path / "two", pool=tmp_path / "pool")
    assert trained == []
    assert_same_answer(answer(tmp_path / "two"), answer(tmp_path / "one"))


# --- what else decides a result


@pytest.fixture
def another_arithmetic(request, monkeypatch):
    """Something that may change a bit has changed."""
    changes = {
        "arithmetic": lambda: monkeypatch.setattr("prunepeft_ray.training.arithmetic.ARITHMETIC", 99),
        "torch": lambda: monkeypatch.setattr(torch, "__version__", "9.9"),
        "instructions": lambda: monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "other"),
        "threads": lambda: monkeypatch.setattr(torch, "get_num_threads", lambda: 7),
        "processor": lambda: monkeypatch.setattr(
            "prunepeft_ray.execution.search.run.hardware", lambda: {"cpu": "other"}
        ),
    }
    changes[request.param]()


@pytest.mark.parametrize(
    "another_arithmetic", ["arithmetic", "torch", "instructions", "threads", "processor"], indirect=True
)
def test_results_of_another_arithmetic_are_not_reused(another_arithmetic, first, spec, tmp_path, trained):
    with pytest.raises(StoppedError):
        search_here(spec, tmp_path / "run", stop_wanted=lambda: len(trained) > 0, pool=first[1])
    assert len(trained) == 1


def test_failed_jobs_are_not_shared(tiny_bert, small_task, tmp_path):
    rates = [f"training.learning_rates.{kind}=1e20" for kind in ("PA", "SA", "head")]
    spec = make_spec(tiny_bert, small_task, *FEW, *rates)
    with pytest.raises(Exception, match="loss is"):
        search_here(spec, tmp_path / "run", pool=tmp_path / "pool")
    assert not files_under(tmp_path / "pool")


def test_a_damaged_entry_is_trained_again_and_mended(spec, tmp_path, trained):
    search_here(spec, tmp_path / "one", pool=tmp_path / "pool")
    count = len(trained)
    for name in files_under(tmp_path / "pool"):
        file = tmp_path / "pool" / name
        file.write_bytes(file.read_bytes()[:-1])
    texts = []
    search_here(spec, tmp_path / "two", lambda event: texts.append(event.text), pool=tmp_path / "pool")
    assert len(trained) == 2 * count
    assert sum("is damaged" in text for text in texts) == count
    search_here(spec, tmp_path / "three", pool=tmp_path / "pool")
    assert len(trained) == 2 * count
    assert_same_answer(answer(tmp_path / "three"), answer(tmp_path / "one"))


# --- what is not shared


def interrupted(spec, path, pool, steps):
    """A run that is stopped after some steps of its first job, with a checkpoint."""
    seen = []

    def count(event):
        seen.append(event.type == "progress")

    with pytest.raises(StoppedError):
        search_here(spec, path, count, stop_wanted=lambda: sum(seen) >= steps, pool=pool)
    (checkpoint,) = (path / "checkpoints").glob("*.ckpt")
    return checkpoint.stem


@pytest.mark.parametrize("same", [True, False], ids=["here", "elsewhere"])
def test_a_job_that_was_begun_under_another_arithmetic_is_not_shared(spec, tmp_path, monkeypatch, trained, same):
    begun = interrupted(spec, tmp_path / "run", tmp_path / "pool", 1)
    if not same:
        monkeypatch.setattr("prunepeft_ray.training.arithmetic.ARITHMETIC", 99)
    search_here(spec, tmp_path / "run", again=True, pool=tmp_path / "pool")
    assert jobs_of(tmp_path / "run").restarts[begun] == 1
    trained.clear()
    search_here(spec, tmp_path / "next", pool=tmp_path / "pool")
    assert trained == ([] if same else [begun])
    # how often it was interrupted there is no part of the result
    assert same is False or jobs_of(tmp_path / "next").restarts[begun] == 0


def test_a_job_that_was_split_for_lack_of_memory_is_not_shared(spec, tmp_path, trained):
    begun = interrupted(spec, tmp_path / "run", tmp_path / "pool", 1)
    keeper = JobKeeper(begun, tmp_path / "run" / "checkpoints", 60.0, lambda: False, lambda text: None)
    keeper.discard()
    keeper.note_split()
    search_here(spec, tmp_path / "run", again=True, pool=tmp_path / "pool")
    trained.clear()
    search_here(spec, tmp_path / "next", pool=tmp_path / "pool")
    assert begun in trained


def test_a_run_with_plugins_has_no_pool(tmp_path):
    events = []
    assert pool_of_run(str(tmp_path), (), None, events.append) == str(tmp_path)
    assert events == []
    assert pool_of_run(str(tmp_path), ("mine.py",), None, events.append) is None
    (event,) = events
    assert event.text == "not using the pool of finished jobs: results may depend on the code of plugins"
    with pytest.raises(InputError, match="--no-pool"):
        pool_of_run("/dev/null", (), None, events.append)


# --- on Ray


@pytest.mark.slow
def test_workers_of_a_search_reuse_what_this_process_has_trained(cluster, first, spec, undisturbed, tmp_path):
    events = []
    start_search(spec, tmp_path / "run", events.append, workers=2, pool=str(first[1]))
    assert jobs_of(tmp_path / "run").reused.all()
    assert not [event for event in events if event.type == "progress"]
    assert sum("reused from the pool" in event.text for event in events) == len(job_ids(first[0]))
    assert_same_answer(answer(tmp_path / "run"), undisturbed)


def test_workers_of_a_study_reuse_jobs_and_share_theirs(cluster, spec, tiny_bert, small_task, tmp_path, trained):
    study, pool = study_of(tiny_bert, small_task), tmp_path / "pool"
    search_here(spec, tmp_path / "search", pool=pool)
    trained.clear()
    start_study(study, tmp_path / "study", lambda event: None, lambda progress: None, workers=2, pool=str(pool))
    jobs = jobs_of(tmp_path / "study")
    assert set(jobs.index[jobs.reused]) == job_ids(tmp_path / "search") & set(jobs.index) != set()
    study_here(study, tmp_path / "again", pool)
    assert trained == []
