import pandas as pd
import pytest
from removal_fakes import WHOLE, PruningStudy, write_pruning_study
from report_fakes import add_rounds, finish, start_run

from prunepeft_ray.analysis import open_results
from prunepeft_ray.analysis.pruning_frames import ARCHITECTURES_FOUND, FREQUENCIES, REMOVALS, ROUNDS
from prunepeft_ray.analysis.searches import SEARCH_STATES
from prunepeft_ray.architecture import Architecture, Module, Slot


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_pruning_study(tmp_path_factory.mktemp("rounds") / "study").results()


def test_searches_that_have_begun_are_known_with_how_they_stand(results):
    states = results["search_states"].set_index(["method", "seed"])
    assert dict(states.status) == {
        ("prunepeft", 0): "done",
        ("prunepeft", 1): "unfinished",
        ("random-search", 0): "done",
    }
    assert states.parameters["prunepeft", 0] == 500
    assert pd.isna(states.parameters["prunepeft", 1])


def test_removals_come_round_by_round_the_most_probable_first(results):
    removals = results["removals"]
    rows = removals[["seed", "round", "slot", "probability", "criteria", "partition", "block", "status"]]
    assert list(rows.itertuples(index=False, name=None)) == [
        (0, 1, "SA.3", 0.5, "weight, zeros", "3.SA", 3, "done"),
        (0, 1, "PA.0", 0.25, "weight", "0.PA", 0, "done"),
        (0, 2, "SA.0", 0.75, "weight", "0.SA", 0, "done"),
        (1, 1, "PA.0", 0.5, "weight", "0.PA", 0, "unfinished"),
    ]
    assert list(removals.depth) == [1.0, 0.0, 0.0, 0.0]


def test_frequencies_count_done_searches_alone(results):
    frame = results["frequencies"].set_index("slot")
    assert list(frame.loc["SA.3"][["there", "removed", "frequency", "searches", "unfinished"]]) == [1, 1, 1.0, 1, 0]
    assert frame.share["PA.0"] == pytest.approx(1 / 3)
    assert frame.removed.sum() == 3
    assert len(frame) == 8


def test_without_a_done_search_frequencies_count_what_there_is_so_far(tmp_path):
    study = PruningStudy(tmp_path / "study")
    study.round(0, 1, WHOLE, {"PA.0": 0.5}, {})
    study.round(1, 1, WHOLE, {"PA.1": 0.5, "PA.0": 0.25}, {})
    frame = study.results()["frequencies"].set_index("slot")
    assert list(frame.loc["PA.0"][["there", "removed", "searches", "unfinished"]]) == [2, 2, 2, 2]
    assert frame.frequency["PA.1"] == 0.5


def test_a_round_tells_what_stood_before_and_after_it(results):
    rounds = results["rounds"].set_index(["seed", "round"])
    columns = ["slots_before", "parameters_before", "removed", "removals", "slots", "parameters", "dev", "dev_after"]
    first, second = (rounds.loc[(0, number)][columns].tolist() for number in (1, 2))
    assert first == [8, 800, 2, "SA.3 (0.500), PA.0 (0.250)", 6, 600, 0.5, 0.625]
    # nothing but the answer tells what is left after the last round, and no round trained it
    assert second[:-1] == [6, 600, 1, "SA.0 (0.750)", 5, 500, 0.625]
    assert pd.isna(second[-1])
    assert rounds.loss[0, 2] == 0.6
    assert pd.isna(rounds.parameters[1, 1])


def test_a_round_without_removals_and_a_failed_training_are_told(tmp_path):
    study = PruningStudy(tmp_path / "study")
    study.round(0, 1, WHOLE, {}, {})
    (row,) = study.results()["rounds"].to_dict("records")
    assert (row["removed"], row["removals"], row["slots"]) == (0, "", 8)
    assert pd.isna(row["dev"])


def test_an_architecture_says_what_fills_each_slot_and_when_the_others_went(results):
    found = results["architectures_found"].set_index(["method", "seed", "slot"])
    done = found.loc["prunepeft", 0]
    assert list(done.index[~done.filled]) == ["PA.0", "SA.0", "SA.3"]
    assert list(done["round"][["PA.0", "SA.0", "SA.3"]]) == [1, 2, 1]
    assert list(done.loc["PA.1"][["module", "size"]]) == ["lora", 8]
    assert pd.isna(done.loc["PA.0"].module)
    assert pd.isna(done.loc["PA.1"]["round"])


def test_an_unfinished_pruning_search_has_an_architecture_as_it_stands(results):
    found = results["architectures_found"]
    standing = found[(found.method == "prunepeft") & (found.seed == 1)]
    assert set(standing.status) == {"unfinished"}
    assert list(standing.slot[~standing.filled]) == ["PA.0"]
    assert list(standing["size"][standing.kind == "SA"]) == [16, 16, 16, 16]


def test_a_search_that_prunes_nothing_has_an_architecture_alone(results):
    found = results["architectures_found"]
    chosen = found[found.method == "random-search"]
    assert list(chosen.slot[chosen.filled]) == ["PA.0", "SA.0"]
    assert chosen["round"].isna().all()
    assert len(chosen) == 8
    assert set(results["removals"].method) == {"prunepeft"}


def test_a_search_that_failed_before_it_had_an_answer_has_no_architecture(tmp_path):
    study = PruningStudy(tmp_path / "study")
    study.round(0, 1, WHOLE, {"PA.0": 0.5}, {})
    study.end(0, None, status="failed")
    results = study.results()
    assert results["architectures_found"].empty
    assert set(results["removals"].status) == {"failed"}


def test_layers_of_full_tuning_stand_beside_the_slots_of_the_space(tmp_path):
    study = PruningStudy(tmp_path / "study", ("full",))
    answer = Architecture.of({Slot(layer, "FT"): Module("full", 1) for layer in range(4)})
    study.train(0, "final", answer, method="full")
    study.end(0, answer, method="full")
    found = study.results()["architectures_found"]
    assert list(found.kind[found.filled]) == ["FT"] * 4
    assert sorted(found.kind[~found.filled]) == ["PA"] * 4 + ["SA"] * 4


def test_a_search_by_itself_has_the_same_frames(tmp_path):
    folder = start_run(tmp_path / "run")
    finish(folder)
    results = open_results(tmp_path / "run")
    assert list(results["removals"].slot) == ["SA.3", "PA.0", "SA.2", "SA.0"]
    assert set(results["removals"].method) == {"prunepeft"}
    assert list(results["rounds"].removals) == ["SA.3 (0.500), PA.0 (0.250)", "SA.2 (0.750), SA.0 (0.125)"]


def test_decisions_before_any_job_are_those_of_the_search(tmp_path):
    folder = start_run(tmp_path / "run")
    add_rounds(folder, rounds=(1,))
    results = open_results(tmp_path / "run")
    assert list(results["removals"].slot) == ["SA.3", "PA.0"]
    assert set(results["removals"].status) == {"unfinished"}


def test_removals_without_criteria_are_removals_too(tmp_path):
    study = PruningStudy(tmp_path / "study")
    study.round(0, 1, WHOLE, {"PA.0": 0.5}, {"0.PA": ()})
    assert list(study.results()["removals"].criteria) == [""]


@pytest.mark.parametrize("frame", [SEARCH_STATES, REMOVALS, FREQUENCIES, ROUNDS, ARCHITECTURES_FOUND])
def test_frames_have_their_columns_with_and_without_rows(frame, results, tmp_path):
    empty = PruningStudy(tmp_path / "study").results()
    names = [column.name for column in frame.columns]
    assert list(results[frame.name].columns) == names
    assert list(empty[frame.name].columns) == names
    assert empty[frame.name].empty
