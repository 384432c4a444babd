import json

import pytest
from report_fakes import add_job, add_rounds, add_search, finish, start_run, supernet

from prunepeft_ray.analysis import Phase, Removal, summarise
from prunepeft_ray.analysis.summary import removed_in
from prunepeft_ray.architecture import Slot
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.jobs import Cost


@pytest.fixture
def folder(tmp_path):
    return start_run(tmp_path / "run")


def test_every_number_of_a_finished_run_is_what_its_files_say(folder):
    finish(folder)
    summary = summarise(folder)
    assert (summary.finished, summary.folder) == (True, str(folder.path))
    assert (summary.model, summary.task, summary.metric) == ("packaged:minilm", "packaged:movie", "accuracy")
    assert (summary.budget, summary.seed) == ("1%", 5)
    assert (summary.parameters, summary.head_parameters) == (900, 10)
    assert (summary.budget_parameters, summary.backbone_parameters) == (1000, 100_000)
    assert summary.percent == pytest.approx(0.9)
    assert summary.supernet == supernet()
    assert [str(slot) for slot in summary.found.slots] == ["PA.1", "SA.1", "PA.2", "PA.3"]
    assert summary.blocks == (1, 3)
    assert summary.dev == {"loss": 0.4, "accuracy": 0.8125}
    assert summary.test == {"accuracy": 0.75, "f1": 0.5}


def test_costs_are_added_up_per_phase_and_epochs_are_passes_over_the_training_split(folder):
    finish(folder)
    summary = summarise(folder)
    assert summary.phases == (
        Phase("warmup", 3, 400, 1.0, 4.5, 400e9),
        Phase("round", 1, 400, 1.0, 8.0, 400e9),
        Phase("final", 1, 1200, 3.0, 30.0, 1200e9),
    )
    assert summary.search_epochs == 2.0  # without the retraining


def test_time_spent_before_an_interruption_counts(folder):
    add_job(folder, "final", 3, 1200, 4.0, restarts=1, cost=Cost(wall_seconds=10.0))
    (*_, final) = summarise(folder).phases
    assert final.seconds == 10.0


def test_removals_come_by_round_and_the_most_expendable_first(folder):
    finish(folder)
    both = ("weight", "zeros")
    assert summarise(folder).removals == (
        Removal(1, "SA.3", 0.5, both),
        Removal(1, "PA.0", 0.25, both),
        Removal(2, "SA.2", 0.75, both),
        Removal(2, "SA.0", 0.125, both),
    )
    assert removed_in(summarise(folder))[Slot(2, "SA")] == 2


def test_the_strategy_names_the_criteria_of_each_partition(folder):
    finish(folder)
    summary = summarise(folder)
    assert summary.strategy["0.PA"] == ("weight",)
    assert summary.strategy["1.PA"] == ("zeros", "gradient")
    assert summary.criteria == summary.strategy["0.SA"] == folder.spec.pruning.criteria


def test_an_unfinished_run_is_shown_as_far_as_it_has_come(folder):
    add_job(folder, "warmup", 0, 100, 1.0)
    add_rounds(folder, (1,))
    summary = summarise(folder)
    assert not summary.finished
    assert summary.found is summary.supernet is summary.parameters is summary.percent is None
    assert summary.dev == summary.test == {}
    assert summary.budget_parameters == 1000
    assert [phase.jobs for phase in summary.phases] == [1, 0, 0]
    assert summary.search_epochs == 0.25
    assert [removal.slot for removal in summary.removals] == ["SA.3", "PA.0"]


def test_a_run_with_nothing_yet_has_a_summary_too(folder):
    summary = summarise(folder)
    assert not summary.finished
    assert summary.metric is summary.budget_parameters is summary.found is None
    assert summary.removals == ()
    assert summary.strategy == {}
    assert summary.search_epochs == 0
    assert all((p.jobs, p.examples, p.epochs, p.seconds, p.flops) == (0, 0, 0, 0, 0) for p in summary.phases)


def test_a_failed_retraining_is_no_answer(folder):
    add_search(folder)
    add_job(folder, "final", 3, 1200, 30.0, metrics={"accuracy": 0.9}, status="failed", reason="diverged")
    assert summarise(folder).dev == {}


def test_the_answer_alone_is_enough_for_sizes(folder):
    finish(folder)
    for file in folder.results.rglob("*.parquet"):
        file.unlink()
    summary = summarise(folder)
    assert summary.percent == pytest.approx(0.9)
    assert summary.budget_parameters == 1000


@pytest.mark.parametrize("stage", [lambda folder: None, add_search, finish])
def test_a_summary_is_plain_json(folder, stage):
    stage(folder)
    summary = summarise(folder)
    data = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert data["percent"] == summary.percent
    assert data["search_epochs"] == summary.search_epochs
    assert len(data["phases"]) == 3
    assert data["found"] == (summary.found.to_dict() if summary.found else None)
    assert [removal["slot"] for removal in data["removals"]] == [removal.slot for removal in summary.removals]


def test_damage_is_told_with_the_file(folder):
    finish(folder)
    next((folder.results / "decisions").glob("*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(RunError, match="decisions"):
        summarise(folder)


@pytest.mark.parametrize("content", ["{", "[]", "7", '{"slots": []}', '{"supernet": {"slots": []}, "blocks": [1]}'])
def test_a_damaged_answer_is_told_with_the_file(folder, content):
    (folder.path / "architecture.json").write_text(content)
    with pytest.raises(InputError, match=r"architecture\.json"):
        summarise(folder)
