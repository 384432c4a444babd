import math
import random
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
from prunepeft_ray.pruning import (
    distinguished,
    most_prunable,
    prunability,
    read_halves,
    read_thetas,
    reliability,
    reliable_scores,
    softmax,
    standardise,
    tied_for_last,
)

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


def test_reliability_by_hand():
    # sums 2, 6, 10: variance 32 / 3; differences 1, -2, 1: variance 2
    assert reliability([(1.5, 0.5), (2.0, 4.0), (5.5, 4.5)]) == pytest.approx(1 - 2 / (32 / 3))
    # halves that agree, and halves that contradict each other
    assert reliability([(1.0, 1.0), (2.0, 2.0), (5.0, 5.0)]) == 1
    assert reliability([(1.0, 3.0), (2.0, 2.0), (3.0, 1.1)]) == 0
    # what one half has more of for all slots alike is no noise
    assert reliability([(1.0, 1.5), (2.0, 2.5), (5.0, 5.5)]) == 1


def test_reliability_is_the_spearman_brown_formula_where_the_halves_have_one_variance():
    first, second = [1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0]
    # their correlation is 3 / 5
    assert reliability(list(zip(first, second, strict=True))) == pytest.approx(2 * 0.6 / (1 + 0.6))


def noisy_halves(noise, slots=24, seed=0):
    """Halves of slots whose true Theta are 1 to 2, each half with independent noise of that deviation."""
    rng = random.Random(seed)
    true = [1 + n / (slots - 1) for n in range(slots)]
    return [(theta + rng.gauss(0, noise), theta + rng.gauss(0, noise)) for theta in true]


@pytest.mark.parametrize(("noise", "least", "most"), [(0.001, 0.999, 1), (0.03, 0.98, 1), (100.0, 0, 0.25)])
def test_a_clear_spread_keeps_its_weight_and_noise_loses_it(noise, least, most):
    found = [reliability(noisy_halves(noise, seed=seed)) for seed in range(100)]
    assert least <= sum(found) / len(found) <= most


def test_reliability_is_the_share_of_true_variance():
    # the variance of 24 true values is 0.0906, that of the noise in the mean of two halves 0.3 ** 2 / 2 = 0.045
    found = [reliability(noisy_halves(0.3, seed=seed)) for seed in range(200)]
    assert sum(found) / len(found) == pytest.approx(0.0906 / (0.0906 + 0.045), abs=0.05)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-30, 1e30])
def test_equal_halves_of_equal_slots_are_not_reliable(value):
    assert reliability([(value, value)] * 5) == 0
    assert reliability([(value, value)]) == reliability([]) == 0


PAIRS = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)))


@given(PAIRS, st.sampled_from([1e-200, 1e-6, 1e6, 1e200]), st.randoms())
def test_reliability_is_a_share_and_depends_on_neither_unit_nor_order_nor_half(pairs, unit, rng):
    found = reliability(pairs)
    assert 0 <= found <= 1
    assert reliability([(b, a) for a, b in pairs]) == pytest.approx(found, abs=1e-9)
    shuffled = list(pairs)
    rng.shuffle(shuffled)
    assert reliability(shuffled) == found
    scaled = [(a * unit, b * unit) for a, b in pairs]
    if max((abs(value) for pair in pairs for value in pair), default=1) > 1e-6:
        assert reliability(scaled) == pytest.approx(found, abs=1e-6)


def test_scores_are_shrunk_within_each_kind():
    slots = pa(0, 1) + sa(0, 1)
    thetas = dict(zip(slots, (1.0, 3.0, 500.0, 800.0), strict=True))
    # PA 1 - 1 / 4; SA agree
    halves = dict(zip(slots, ((1.5, 0.5), (2.5, 3.5), (500.0, 500.0), (800.0, 800.0)), strict=True))
    assert reliable_scores(SMALL, thetas, halves, "within-kind") == pytest.approx(
        dict(zip(slots, (0.75, -0.75, 1.0, -1.0), strict=True))
    )
    # without halves nothing is known against it
    assert reliable_scores(SMALL, thetas, {}, "within-kind") == prunability(SMALL, thetas, "within-kind")


def test_slots_are_told_apart_within_each_kind_unless_kinds_compare():
    thetas = dict(zip(pa(0, 1) + sa(0, 1), (1.0, 2.0, 5.0, 5.0), strict=True))
    assert distinguished(SMALL, thetas, "within-kind") == set(pa(0, 1))
    assert distinguished(SMALL, thetas, "raw") == distinguished(FREE, thetas, "within-kind") == set(thetas)
    assert distinguished(SMALL, dict.fromkeys(thetas, 0.1), "within-kind") == set()
    assert distinguished(SMALL, {}, "raw") == set()


def test_slots_tie_for_last_within_each_kind():
    slots = pa(0, 1, 2) + sa(0, 1, 2)
    thetas = dict(zip(slots, (1.0, 2.0, 3.0, 0.9, 1.0, 1.0), strict=True))
    # small Theta goes first: PA.2 alone is last of PA
    assert tied_for_last(SMALL, thetas, "within-kind") == set(sa(1, 2))
    assert tied_for_last(LARGE, thetas, "within-kind") == set()
    assert tied_for_last(SMALL, dict.fromkeys(slots, 0.1), "within-kind") == set(slots)
    assert tied_for_last(SMALL, {slots[0]: 1.0}, "within-kind") == tied_for_last(SMALL, {}, "raw") == set()


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


def make_result(scores, halves=None):
    return TrainResult(
        parameters=1, head_parameters=1, epochs=(), best_epoch=1, metrics={}, scores=scores, halves=halves or {}
    )


def test_thetas_are_read_by_slot():
    result = make_result({"weight": {"PA.0": 1.0, "SA.3": 2.0}, "gate": {"PA.0": 3.0}})
    assert read_thetas(result, ("weight",), [Slot(0, "PA"), Slot(3, "SA")], "round 1/3") == {
        "weight": {Slot(0, "PA"): 1.0, Slot(3, "SA"): 2.0}
    }


def test_halves_are_read_as_far_as_they_are_known():
    halves = {"weight": {"PA.0": (1.0, 2.0), "PA.1": (math.nan, 1.0)}, "gate": {"PA.2": (1.0, 1.0)}}
    assert read_halves(make_result({}, halves), ("weight", "zeros"), pa(0, 1, 2)) == {
        "weight": {Slot(0, "PA"): (1.0, 2.0)},
        "zeros": {},
    }


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, r"round 1/3: the result lacks the score of criterion 'weight' for slot PA\.0"),
        ({"weight": {"PA.1": 1.0}}, r"lacks the score of criterion 'weight' for slot PA\.0"),
        ({"weight": {"PA.0": math.nan}}, r"round 1/3: the training diverged: criterion 'weight' of slot PA\.0 is nan"),
        ({"weight": {"PA.0": math.inf}}, "is inf"),
    ],
)
def test_unusable_scores_are_an_error(scores, message):
    with pytest.raises(RunError, match=message):
        read_thetas(make_result(scores), ("weight",), pa(0), "round 1/3")
