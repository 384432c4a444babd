import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunepeft_ray.pareto import hypervolume, pareto_front


def front(**points):
    """The front of points given as value and cost."""
    return pareto_front({name: value for name, (value, _) in points.items()}, lambda name: points[name][1])


def test_only_what_nothing_beats_is_on_the_front_by_rising_cost():
    assert front(a=(3, 30), b=(1, 10), c=(0.5, 20), d=(3, 40), e=(2, 20)) == ["b", "e", "a"]


def test_of_equals_the_first_counts():
    assert front(a=(1, 10), b=(1, 10)) == ["a"]


def test_what_failed_never_counts():
    assert front(a=(-math.inf, 1), b=(math.nan, 1), c=(-5, 9)) == ["c"]
    assert front() == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20))
def test_everything_is_on_the_front_or_weakly_dominated_by_it(points):
    values = {i: value for i, (value, _) in enumerate(points)}
    chosen = {points[i] for i in pareto_front(values, lambda i: points[i][1])}
    for value, cost in points:
        beaten = any((v >= value and c <= cost) and (v, c) != (value, cost) for v, c in points)
        assert ((value, cost) in chosen) == (not beaten)


def test_the_hypervolume_is_the_area_worked_out_by_hand():
    # up to cost 10, above value 1: from 2 to 5 a height of 2, from 5 to 10 one of 4
    points = [(3, 2), (5, 5), (4, 6), (0.5, 1), (9, 11)]
    assert hypervolume(points, (1, 10)) == 3 * 2 + 5 * 4


def test_what_the_reference_point_beats_or_what_failed_has_no_volume():
    assert hypervolume([], (0, 1)) == 0
    assert hypervolume([(0.5, 2), (-1, 0.5), (math.nan, 0), (math.inf, 0)], (0, 1)) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_the_hypervolume_is_the_number_of_unit_squares_that_some_point_dominates(points):
    squares = {(v, c) for value, cost in points for v in range(2, value) for c in range(cost, 8)}
    assert hypervolume(points, (2, 8)) == pytest.approx(len(squares))
