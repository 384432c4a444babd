import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from prunepeft_ray.analysis.statistics import (
    Difference,
    Estimate,
    correct,
    difference,
    difference_over,
    estimate,
    estimate_crossed,
    holm,
)

values = st.floats(-1, 1)


def test_mean_deviation_and_interval_are_those_worked_out_by_hand():
    # mean 0.8, squares 0.01 + 0 + 0.01, t(0.975, 2) = 4.302653, half width 4.302653 * 0.1 / sqrt(3)
    found = estimate([0.7, 0.8, 0.9])
    assert found.n == 3
    assert found.mean == pytest.approx(0.8)
    assert found.deviation == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.5515862, 1.0484138))


def test_crossed_values_vary_over_searches_and_over_retrainings():
    # search means 0.7 and 0.9: variance 0.02 / 2; the same for retraining seeds; sum 0.02, df 0.02^2 / (2 * 0.01^2) = 2
    found = estimate_crossed({3: {0: 0.6, 1: 0.8}, 4: {0: 0.8, 1: 1.0}})
    assert (found.n, found.mean, found.deviation, found.df) == pytest.approx((2, 0.8, math.sqrt(0.02), 2))
    # t(0.975, 2) = 4.302653, half width 4.302653 * sqrt(0.02)
    assert (found.low, found.high) == pytest.approx((0.8 - 0.6084870, 0.8 + 0.6084870))


def test_the_larger_source_rules_the_degrees_of_freedom():
    # search means 0.7, 0.8: 0.005 / 2 = 0.0025; means by retraining seed 0.65, 0.85: 0.02 / 2 = 0.01
    found = estimate_crossed({0: {0: 0.6, 1: 0.8}, 1: {0: 0.7, 1: 0.9}})
    # 0.0125^2 / (0.0025^2 + 0.01^2) = 1.5625 / 1.0625
    assert found.df == pytest.approx(1.470588)


def test_the_test_of_a_difference_is_the_one_worked_out_by_hand():
    ours = {0: {0: 0.5, 1: 0.6}, 1: {0: 0.7, 1: 0.6}, 2: {0: 0.9}}
    theirs = {0: {0: 0.4, 1: 0.3, 9: 0.0}, 1: {0: 0.4, 1: 0.1}, 5: {0: 0.0}}
    found = difference(ours, theirs)
    # 0.1, 0.3; 0.3, 0.5: searches 0.2, 0.4, retrainings 0.2, 0.4: variance 0.02 / 2 + 0.02 / 2, two degrees
    # t = 0.3 / sqrt(0.02) = 2.1213203: p = 1 - t / sqrt(t^2 + 2) = 0.1679497
    assert (found.n, found.mean, found.df, found.p) == pytest.approx((2, 0.3, 2, 0.1679497))
    assert (found.low, found.high) == pytest.approx((0.3 - 0.6084870, 0.3 + 0.6084870))


def test_without_chance_on_either_side_it_is_the_paired_test_over_retraining_seeds():
    ours, theirs = [0.6, 0.8, 0.95], [0.5, 0.6, 0.65]
    found = difference(*({s: dict(enumerate(own)) for s in range(3)} for own in (ours, theirs)))
    # differences 0.1, 0.2, 0.3: t = 0.2 / (0.1 / sqrt(3)) = 3.4641; two degrees: p = 1 - t / sqrt(t^2 + 2) = 0.0741799
    assert (found.mean, found.df, found.p) == pytest.approx((0.2, 2, 0.0741799))
    assert (found.low, found.high) == pytest.approx((-0.0484138, 0.4484138))


def test_searches_that_found_the_same_architecture_are_one_degree_of_freedom():
    same, other = {0: 0.5, 1: 0.5}, {0: 0.8, 1: 0.8}
    # one retraining of each, measured again and again: two different answers, so one degree
    assert estimate_crossed({0: same, 1: same, 2: same, 3: other}).df == pytest.approx(1)
    assert estimate_crossed({0: same, 1: {0: 0.6, 1: 0.6}, 2: {0: 0.7, 1: 0.7}, 3: other}).df == pytest.approx(3)


def test_only_retraining_seeds_that_all_searches_have_make_an_interval():
    whole = {0: {0: 0.6, 1: 0.8}, 1: {0: 0.7, 1: 0.9}}
    more = {0: {**whole[0], 2: 0.1}, 1: whole[1]}
    assert estimate_crossed(more).df == pytest.approx(estimate_crossed(whole).df)
    assert estimate_crossed(more).mean == pytest.approx((0.5 + 0.8) / 2)
    assert estimate_crossed({0: {0: 0.6, 1: 0.8}, 1: {1: 0.9}}).low is None


def test_over_tasks_it_is_students_t():
    # -0.1, -0.15: mean -0.125, deviation 0.0353553; one degree of freedom: p = 1 - 2 atan(5) / pi
    found = difference_over([-0.1, -0.15])
    assert (found.n, found.mean, found.df, found.p) == pytest.approx((2, -0.125, 1, 1 - 2 * math.atan(5) / math.pi))
    assert found.low == pytest.approx(-0.125 - 12.7062047 * 0.025)


def test_few_values_claim_nothing():
    assert estimate([]) == estimate_crossed({}) == Estimate()
    assert estimate([0.5]) == estimate_crossed({0: {0: 0.4, 1: 0.6}}) == Estimate(1, 0.5)
    assert estimate_crossed({0: {0: 0.4}, 1: {0: 0.6}}).low is None
    assert difference({1: {0: 0.5}}, {2: {0: 0.5}}) == difference({1: {0: 0.5}}, {1: {1: 0.5}}) == Difference()
    assert difference({1: {0: 0.5}}, {1: {0: 0.25}}) == Difference(1, 0.25)
    assert difference_over([]) == Difference()
    assert difference_over([0.25]) == Difference(1, 0.25)


def test_equal_values_have_no_interval_and_equal_differences_no_p():
    assert estimate([0.75, 0.75]) == Estimate(2, 0.75, 0.0)
    # 0.3 - 0.1 and 0.4 - 0.2 differ by rounding alone
    found = difference({1: {0: 0.3, 1: 0.4}, 2: {0: 0.4, 1: 0.3}}, {1: {0: 0.1, 1: 0.2}, 2: {0: 0.2, 1: 0.1}})
    assert (found.mean, found.low, found.high, found.p) == (pytest.approx(0.2), None, None, None)


@given(st.lists(values, min_size=2, max_size=8).filter(lambda found: max(found) - min(found) > 1e-6))
def test_an_interval_is_scipys(found):
    ours = estimate(found)
    theirs = stats.ttest_1samp(found, 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(arrays(float, (3, 4), elements=values, unique=True).filter(lambda table: table.mean(1).std() > 1e-4))
def test_two_sources_are_added_as_welch_adds_two_samples(table):
    found = estimate_crossed({search: dict(enumerate(row)) for search, row in enumerate(table.tolist())})
    # the second sample varies as means of retraining seeds do, and has mean 0
    welch = stats.ttest_ind(table.mean(1), table.mean(0) - table.mean(), equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-6)
    assert found.df == pytest.approx(welch.df)


tables = arrays(float, (3, 2), elements=values)


@given(tables, tables)
def test_swapping_methods_turns_the_difference_around_and_keeps_p(first, second):
    first, second = ({s: dict(enumerate(row)) for s, row in enumerate(table.tolist())} for table in (first, second))
    one, other = difference(first, second), difference(second, first)
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
