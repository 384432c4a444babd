import math

from hypothesis import given
from hypothesis import strategies as st

from baselines.pareto import pareto_front


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
