import math

import pytest
from removal_fakes import WHOLE, PruningStudy, without, write_pruning_study

from prunepeft_ray.analysis.warmup_frames import RATIOS, TENDENCIES


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_pruning_study(tmp_path_factory.mktemp("warmups") / "study").results()


def test_a_ratio_is_the_share_of_the_turns_in_which_the_slot_stood(results):
    ratios = results["pruning_ratios"].set_index(["criterion", "slot"])
    assert list(ratios.loc["weight", "PA.0"][["turns", "removed", "ratio", "searches"]]) == [2, 2, 1.0, 2]
    # it stood in both turns of seed 0 and the only one of seed 1, and went once
    assert list(ratios.loc["weight", "PA.2"][["turns", "removed"]]) == [3, 1]
    assert ratios.loc["weight", "PA.2"].ratio == pytest.approx(1 / 3)
    assert ratios.loc["weight", "PA.1"].ratio == 0.5
    assert ratios.loc["zeros", "PA.1"].ratio == 0.0
    assert len(ratios) == 16


def test_a_tendency_is_a_share_of_what_the_criterion_removed(results):
    tendencies = results["tendencies"].set_index(["criterion", "partition"])
    # weight removed PA.0 twice, PA.1, PA.2, SA.0 and SA.3 once
    assert tendencies.loc["weight", "0.PA"].share == pytest.approx(2 / 6)
    assert tendencies.loc["weight", "2.SA"].removed == 0
    assert tendencies.loc["zeros", "3.SA"].share == pytest.approx(2 / 6)
    assert tendencies.groupby("criterion").share.sum().tolist() == pytest.approx([1.0, 1.0])
    assert set(tendencies.warm_ups) == {1}
    assert set(tendencies.searches) == {2}


def test_a_criterion_is_assigned_by_the_share_of_rounds_in_which_it_judged(results):
    assigned = results["tendencies"].set_index(["criterion", "partition"]).assigned
    # both criteria judged block 3's SA in both first rounds; seed 0 had none left in its second
    assert assigned["weight", "3.SA"] == assigned["zeros", "3.SA"] == 1.0
    # in two rounds of three it was zeros, in one weight
    assert assigned["zeros", "2.SA"] == pytest.approx(2 / 3)
    assert assigned["weight", "2.SA"] == pytest.approx(1 / 3)
    assert assigned["zeros", "0.PA"] == 0.0


def test_before_the_first_round_nobody_knows_what_is_assigned(tmp_path):
    study = PruningStudy(tmp_path / "study")
    study.turn(0, 1, "weight", WHOLE.slots, ("PA.0",), study.train(0, "warmup", evaluate="none"))
    assert study.results()["tendencies"].assigned.isna().all()


def test_a_strategy_learnt_every_round_is_told_by_its_number_of_warm_ups(tmp_path):
    study = PruningStudy(tmp_path / "study")
    for standing in (WHOLE, without("PA.0")):
        study.turn(0, 1, "weight", standing.slots, ("SA.0",), study.train(0, "warmup", standing, evaluate="none"))
    frame = study.results()["tendencies"]
    assert set(frame.warm_ups) == {2}
    assert frame.set_index("partition").removed["0.SA"] == 2


def test_held_out_losses_are_those_of_the_jobs_without_the_removed_slots(tmp_path):
    study = PruningStudy(tmp_path / "study")
    for seed, losses in ((0, (0.5, 0.25)), (1, (0.75, None))):
        scoring = study.train(seed, "warmup", evaluate="holdout", loss=9.0)
        slots = [slot for slot in WHOLE.slots if str(slot) == "PA.0"]
        study.turn(seed, 1, "weight", slots, ("PA.0",), scoring)
        study.turn(seed, 1, "zeros", [slot for slot in WHOLE.slots if str(slot) == "SA.1"], ("SA.1",), scoring)
        for slot, loss in zip(("PA.0", "SA.1"), losses, strict=True):
            if loss is not None:
                study.train(seed, "warmup", without(slot), evaluate="holdout", loss=loss)
    loss = study.results()["tendencies"].set_index(["criterion", "partition"]).loss
    assert loss["weight", "0.PA"] == 0.625
    assert loss["zeros", "1.SA"] == 0.25
    assert math.isnan(loss["zeros", "0.PA"])


@pytest.mark.parametrize("frame", [RATIOS, TENDENCIES])
def test_frames_have_their_columns_with_and_without_rows(frame, results, tmp_path):
    empty = PruningStudy(tmp_path / "study").results()
    names = [column.name for column in frame.columns]
    assert list(results[frame.name].columns) == names
    assert list(empty[frame.name].columns) == names
    assert empty[frame.name].empty
