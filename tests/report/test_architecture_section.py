import csv

import pytest
from pages import make_study
from removal_fakes import WHOLE, PruningStudy, write_pruning_study
from report_fakes import add_search, finish, start_run
from studies import SMALL, study_here

from prunepeft_ray.analysis import open_results
from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.report.blocks import Drawing
from prunepeft_ray.report.sections import architecture as module
from prunepeft_ray.report.sections.architecture import architecture_section
from prunepeft_ray.report.sections.pruning import pruning_section
from prunepeft_ray.study import StudySpec


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    return architecture_section(write_pruning_study(tmp_path_factory.mktemp("found") / "study").results())


def block(section, key):
    (found,) = [block for block in section.blocks if block.key == key]
    return found


def test_a_study_draws_what_share_of_searches_fills_each_slot(section):
    figure = block(section, "architectures")
    pa, _sa = figure.plot.data
    assert pa.x == ("prunepeft", "random-search")
    assert pa.y == ("0", "1", "2", "3")
    assert pa.z.tolist() == [[0, 1], [1, 0], [1, 0], [1, 0]]
    assert pa.text.tolist() == [["", "8"], ["8", ""], ["8", ""], ["8", ""]]
    assert "searches unfinished: 1, left out" in figure.basis.marks


def test_searches_that_differ_in_size_show_the_range(tmp_path):
    study = PruningStudy(tmp_path / "study", ("uniform-lora",))
    for seed, rank in ((0, 4), (1, 16)):
        answer = Architecture.of({Slot(0, "PA"): Module("lora", rank)})
        study.train(seed, "final", answer, method="uniform-lora")
        study.end(seed, answer, method="uniform-lora")
    pa, _sa = block(architecture_section(study.results()), "architectures").plot.data
    assert pa.text.tolist() == [["4–16"]]


def test_the_story_tells_each_round_with_its_removals_and_what_came_of_it(section):
    text = block(section, "story").text
    assert text.iloc[0].tolist() == [
        "prunepeft", 0, 1, "SA.3 (0.500), PA.0 (0.250)", 6, "600", "0.5000", "0.6250",
    ]  # fmt: skip
    # after the last round there is only the retraining
    assert text["dev after"].tolist() == ["0.6250", "0.7500 †", ""]
    assert text.method.tolist() == ["prunepeft", "prunepeft", "prunepeft (unfinished)"]


def test_the_story_is_drawn_with_retrainings_hollow(section):
    slots, dev, final, *others = block(section, "rounds").plot.data
    assert (list(slots.x), list(slots.y)) == ([0, 1, 2], [8, 6, 5])
    assert (list(dev.x), list(dev.y)) == ([0, 1], [0.5, 0.625])
    assert (list(final.x), list(final.y), final.marker.symbol) == ([2], [0.75], "circle-open")
    assert slots.customdata[1] == "round 1 removed SA.3 (0.500), PA.0 (0.250)"
    assert len(others) == 2


def test_of_many_searches_the_first_seeds_are_told_and_the_rest_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_SEARCHES", 2)
    study = PruningStudy(tmp_path / "study", seeds=(0, 1, 2))
    for seed in study.spec.seeds:
        study.round(seed, 1, WHOLE, {"PA.0": 0.5}, {})
    section = architecture_section(study.results())
    assert block(section, "story").text.seed.tolist() == [0, 1]
    assert section.missing == ("the rounds of 1 of 3 searches: the table `rounds` has all of them",)
    assert len(study.results()["rounds"]) == 3


def test_rounds_without_evaluation_are_told_without_a_metric(tmp_path, section):
    study = PruningStudy(tmp_path / "study")
    study.round(0, 1, WHOLE, {"PA.0": 0.5}, {}, evaluate="none")
    bare = architecture_section(study.results())
    assert block(bare, "story").text[["dev before", "dev after"]].values.tolist() == [["", ""]]
    for key in ("rounds", "story"):
        assert "pruning.evaluate_rounds: true" in block(bare, key).caption
        assert "evaluate_rounds" not in block(section, key).caption


def test_a_search_by_itself_is_drawn(tmp_path):
    folder = start_run(tmp_path / "run")
    finish(folder)
    drawing = architecture_section(open_results(tmp_path / "run")).blocks[0]
    assert isinstance(drawing, Drawing)
    assert drawing.svg.startswith("<svg")
    assert drawing.scope == {"model": "packaged:minilm", "task": "packaged:movie"}


def test_a_search_that_has_not_ended_is_shown_as_it_stands(tmp_path):
    folder = start_run(tmp_path / "run")
    add_search(folder)
    section = architecture_section(open_results(tmp_path / "run"))
    figure = block(section, "architectures")
    assert figure.plot.data[0].x == ("prunepeft (so far)",)
    assert figure.basis.marks[0] == "searches unfinished: 1"


def test_nothing_is_there_before_there_is_anything(tmp_path):
    empty = architecture_section(PruningStudy(tmp_path / "study").results())
    assert (empty.blocks, empty.missing) == ((), ("architectures: no search has chosen one yet",))
    start_run(tmp_path / "run")
    assert architecture_section(open_results(tmp_path / "run")).blocks == ()
    assert architecture_section(make_study(tmp_path / "odd")).blocks == ()


def test_a_real_study_is_shown_whole(tiny_bert, tiny_llama, tmp_path):
    with (tmp_path / "small.csv").open("w", newline="") as stream:
        rows = [(f"{'good' if n % 2 else 'bad'} film {n}", ("no", "yes")[n % 2]) for n in range(60)]
        csv.writer(stream).writerows([("text", "label"), *rows])
    changes = {
        "methods": ["prunepeft:effectiveness", "prunepeft:dynamic", "random-pruning"],
        "tasks": [str(tmp_path / "small.csv")],
        "models": [tiny_bert, tiny_llama],
        "pruning": {"rounds": 2, "criteria": ["weight", "gradient"]},
    }
    folder, _ = study_here(StudySpec.model_validate(SMALL | changes), tmp_path / "run")
    results = open_results(folder.path)
    removals, found = results["removals"], results["architectures_found"]
    pruned = found[~found.filled & found.method.isin(removals.method)]
    # what the rounds removed is what the answers lack
    assert pruned["round"].notna().all()
    assert len(pruned) == len(removals)
    assert set(found.groupby("model").layer.max()) == {3, 4}
    assert set(removals.method) == {"prunepeft:effectiveness", "prunepeft:dynamic"}
    tendencies = results["tendencies"].set_index("method")
    assert tendencies.loc["prunepeft:effectiveness"].loss.notna().all()
    assert set(tendencies.loc["prunepeft:dynamic"].warm_ups) == {2}
    shown = [*pruning_section(results).blocks, *architecture_section(results).blocks]
    assert {block.key for block in shown} >= {"architectures", "rounds", "story", "frequency-by-block"}
    assert all(block.basis.fidelity for block in shown)
    assert not any("unfinished" in mark for block in shown for mark in block.basis.marks)
