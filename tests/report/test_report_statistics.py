import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prunepeft_ray.report.statistics import Difference, Estimate, correct, estimate, holm, paired

values = st.floats(-1, 1)


def test_mean_deviation_and_interval_are_those_worked_out_by_hand():
    # mean 0.8, squares 0.01 + 0 + 0.01, t(0.975, 2) = 4.302653, half width 4.302653 * 0.1 / sqrt(3)
    found = estimate([0.7, 0.8, 0.9])
    assert found.n == 3
    assert found.mean == pytest.approx(0.8)
    assert found.deviation == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.5515862, 1.0484138))


def test_the_paired_test_is_the_one_worked_out_by_hand():
    # differences 0.1, 0.2, 0.3: t = 0.2 / (0.1 / sqrt(3)) = 3.4641; two degrees: p = 1 - t / sqrt(t^2 + 2) = 0.0741799
    found = paired({1: 0.6, 2: 0.8, 3: 0.95, 4: 0.1}, {3: 0.65, 2: 0.6, 1: 0.5, 5: 0.9})
    assert (found.n, found.mean, found.p) == pytest.approx((3, 0.2, 0.0741799))
    assert (found.low, found.high) == pytest.approx((-0.0484138, 0.4484138))


def test_few_values_claim_nothing():
    assert estimate([]) == Estimate()
    assert estimate([0.5]) == Estimate(1, 0.5)
    assert paired({1: 0.5}, {2: 0.5}) == Difference()
    assert paired({1: 0.5}, {1: 0.25}) == Difference(1, 0.25)


def test_equal_values_have_no_interval_and_equal_differences_no_p():
    assert estimate([0.75, 0.75]) == Estimate(2, 0.75, 0.0)
    # 0.3 - 0.1 and 0.4 - 0.2 differ by rounding alone
    found = paired({1: 0.3, 2: 0.4}, {1: 0.1, 2: 0.2})
    assert (found.mean, found.low, found.high, found.p) == (pytest.approx(0.2), None, None, None)


@given(st.lists(values, min_size=2, max_size=8).filter(lambda found: max(found) - min(found) > 1e-6))
def test_an_interval_is_scipys(found):
    ours = estimate(found)
    theirs = stats.ttest_1samp(found, 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(st.lists(st.tuples(values, values), max_size=8))
def test_swapping_methods_turns_the_difference_around_and_keeps_p(pairs):
    first, second = ({i: pair[k] for i, pair in enumerate(pairs)} for k in (0, 1))
    one, other = paired(first, second), paired(second, first)
    if one.mean is not None:
        assert one.mean == pytest.approx(-other.mean, abs=1e-12)
    assert (one.p is None) == (other.p is None)
    if one.p is not None:
        assert one.p == pytest.approx(other.p)
        assert not math.isnan(one.p)


def test_holms_correction_is_the_one_worked_out_by_hand():
    # sorted 0.01 x 4, 0.02 x 3, 0.03 x 2 (no less than the 0.06 before it), 0.5 x 1
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_is_no_test_makes_the_family_no_larger():
    family = {"a": Difference(2, 0.1, p=0.02), "b": Difference(1, 0.1), "c": Difference(2, 0.1, p=0.04)}
    corrected = correct(family)
    assert {key: found.p_holm for key, found in corrected.items()} == {"a": 0.04, "b": None, "c": 0.04}
    assert [found.p for found in corrected.values()] == [0.02, None, 0.04]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrected_values_lie_between_the_p_and_bonferronis_and_keep_the_order(ps):
    corrected = holm(ps)
    for p, found in zip(ps, corrected, strict=True):
        assert p <= found <= min(1.0, len(ps) * p) + 1e-12
    order = sorted(range(len(ps)), key=ps.__getitem__)
    assert all(corrected[a] <= corrected[b] for a, b in itertools.pairwise(order))
