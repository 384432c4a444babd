import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pruning_fakes import make_space, pa, sa
from toy_jobs import digest

from prunepeft_ray.architecture import KINDS, Slot
from prunepeft_ray.criteria.base import Criterion
from prunepeft_ray.errors import RunError
from prunepeft_ray.jobs import TrainResult
from prunepeft_ray.pruning import most_prunable, prunability, read_thetas, softmax, standardise

SMALL = Criterion("small", "", "", "small")
LARGE = Criterion("large", "", "", "large")
FREE = Criterion("free", "", "", "small", scale_free=True)

SLOTS = st.builds(Slot, st.integers(0, 30), st.sampled_from(KINDS))
# a grid, so that sums and products of the values hide no tie
THETAS = st.dictionaries(SLOTS, st.integers(0, 40).map(lambda n: n / 8), min_size=1, max_size=24)
CRITERIA = st.sampled_from((SMALL, LARGE, FREE))


def test_raw_only_turns_the_sign():
    thetas = dict(zip(pa(0, 1) + sa(0), (1.0, 3.0, 50.0), strict=True))
    assert prunability(LARGE, thetas, "raw") == thetas
    assert prunability(SMALL, thetas, "raw") == {slot: -theta for slot, theta in thetas.items()}


def test_standardised_within_each_kind():
    thetas = dict(zip(pa(0, 1) + sa(0, 1, 2), (1.0, 3.0, 500.0, 500.0, 800.0), strict=True))
    # PA: mean 2, deviation 1; SA: mean 600, deviation sqrt(20000)
    expected = dict(zip(pa(0, 1) + sa(0, 1, 2), (1, -1, 0.5**0.5, 0.5**0.5, -(2**0.5)), strict=True))
    assert prunability(SMALL, thetas, "within-kind") == pytest.approx(expected)


def test_scale_free_criteria_are_standardised_over_all_slots():
    thetas = dict(zip(pa(0, 1) + sa(0, 1), (0.0, 0.0, 4.0, 4.0), strict=True))
    assert prunability(FREE, thetas, "within-kind") == pytest.approx(
        dict(zip(pa(0, 1) + sa(0, 1), (1, 1, -1, -1), strict=True))
    )


@pytest.mark.parametrize("theta", [0.0, 0.1, 1 / 3, 1e-30, 1e30])
def test_equal_values_and_lone_slots_are_neutral(theta):
    thetas = dict.fromkeys(pa(*range(7)) + sa(3), theta)
    assert set(prunability(SMALL, thetas, "within-kind").values()) == {0.0}
    assert standardise({}) == {}


def test_rounding_errors_are_no_differences():
    assert set(standardise(dict(zip(pa(0, 1, 2), (0.3, 0.1 + 0.2, 0.3), strict=True))).values()) == {0.0}


@pytest.mark.parametrize("unit", [1.0, 0.1, 3.0, 7.0, 1000.0, 1e-7])
def test_kinds_that_differ_only_in_their_unit_tie(unit):
    values = [digest(n) for n in range(12)]
    scores = prunability(
        SMALL,
        dict(zip(pa(*range(12)) + sa(*range(12)), values + [unit * v for v in values], strict=True)),
        "within-kind",
    )
    assert [scores[slot] for slot in pa(*range(12))] == [scores[slot] for slot in sa(*range(12))]


def test_tiny_and_huge_values_are_standardised_alike():
    values = dict(zip(pa(0, 1, 2), (1.0, 2.0, 6.0), strict=True))
    for scale in (1e-200, 1e-9, 1e200):
        scaled = {slot: value * scale for slot, value in values.items()}
        assert standardise(scaled) == pytest.approx(standardise(values))


@given(THETAS, st.sampled_from((SMALL, LARGE)), st.integers(0, 99))
def test_no_unit_decides_between_the_kinds(thetas, criterion, seed):
    scaled = {slot: theta * (1000 if slot.kind == "SA" else 1) for slot, theta in thetas.items()}
    before = prunability(criterion, thetas, "within-kind")
    after = prunability(criterion, scaled, "within-kind")
    assert most_prunable(after, len(after), seed) == most_prunable(before, len(before), seed)


def test_raw_does_let_the_unit_decide():
    thetas = dict(zip(pa(0, 1) + sa(0, 1), (1.0, 2.0, 1.5, 2.5), strict=True))
    scaled = {slot: theta * (1000 if slot.kind == "SA" else 1) for slot, theta in thetas.items()}
    assert most_prunable(prunability(SMALL, thetas, "raw"), 2, 0) == [*pa(0), *sa(0)]
    assert most_prunable(prunability(SMALL, scaled, "raw"), 2, 0) == pa(0, 1)


@given(THETAS, CRITERIA, st.sampled_from(("raw", "within-kind")), st.integers(0, 99), st.randoms())
def test_order_of_the_mapping_does_not_matter(thetas, criterion, compare, seed, rng):
    pairs = list(thetas.items())
    rng.shuffle(pairs)
    scores = prunability(criterion, thetas, compare)
    shuffled = prunability(criterion, dict(pairs), compare)
    assert shuffled == scores
    rng.shuffle(pairs)
    again = {slot: scores[slot] for slot, _ in pairs}
    assert most_prunable(again, 5, seed) == most_prunable(scores, 5, seed)


@given(THETAS, st.integers(0, 30), st.integers(0, 99))
def test_most_prunable_takes_the_highest(thetas, count, seed):
    chosen = most_prunable(thetas, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, len(thetas))
    assert [thetas[slot] for slot in chosen] == sorted(thetas.values(), reverse=True)[:count]
    assert most_prunable(thetas, count, seed) == chosen


def test_a_constant_criterion_does_not_lean_towards_the_first_layers():
    slots = make_space(12).supernet.slots
    thetas = dict.fromkeys(slots, 1.0)
    taken = Counter(
        slot for seed in range(600) for slot in most_prunable(prunability(SMALL, thetas, "within-kind"), 3, seed)
    )
    assert set(taken) == set(slots)
    # 75 expected for each slot, deviation about 8
    assert all(40 < count < 115 for count in taken.values())
    first_half = sum(count for slot, count in taken.items() if slot.layer < 6)
    assert abs(first_half / 1800 - 0.5) < 0.06
    parallel = sum(count for slot, count in taken.items() if slot.kind == "PA")
    assert abs(parallel / 1800 - 0.5) < 0.06


@given(st.dictionaries(SLOTS, st.floats(-1e6, 1e6), min_size=1))
def test_softmax_is_stable(scores):
    p = softmax(scores)
    assert all(math.isfinite(share) and share >= 0 for share in p.values())
    assert math.fsum(p.values()) == pytest.approx(1)


def test_softmax_by_hand():
    assert softmax(dict(zip(pa(0, 1), (math.log(3), 0.0), strict=True))) == pytest.approx(
        dict(zip(pa(0, 1), (0.75, 0.25), strict=True))
    )
    assert softmax({}) == {}


def make_result(scores):
    return TrainResult(parameters=1, head_parameters=1, epochs=(), best_epoch=1, metrics={}, scores=scores)


def test_thetas_are_read_by_slot():
    result = make_result({"weight": {"PA.0": 1.0, "SA.3": 2.0}, "gate": {"PA.0": 3.0}})
    assert read_thetas(result, ("weight",), [Slot(0, "PA"), Slot(3, "SA")], "round 1/3") == {
        "weight": {Slot(0, "PA"): 1.0, Slot(3, "SA"): 2.0}
    }


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, r"round 1/3: the result has no score of criterion 'weight' for slot PA\.0"),
        ({"weight": {"PA.1": 1.0}}, r"no score of criterion 'weight' for slot PA\.0"),
        ({"weight": {"PA.0": math.nan}}, r"round 1/3: criterion 'weight' of slot PA\.0 is nan: .*diverged"),
        ({"weight": {"PA.0": math.inf}}, "is inf"),
    ],
)
def test_unusable_scores_are_an_error(scores, message):
    with pytest.raises(RunError, match=message):
        read_thetas(make_result(scores), ("weight",), pa(0), "round 1/3")
