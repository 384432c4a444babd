import pytest
from hypothesis import given
from hypothesis import strategies as st
from pruning_fakes import make_space, pa, sa

from prunepeft_ray.pruning import slots_per_round, slots_to_remove


@pytest.mark.parametrize(
    ("budget", "rounds", "expected"),
    [
        # 24 slots of 100 and 200, 3,600 in all, 150 on average
        (1800, 3, 4),  # 12 slots must go
        (1799, 3, 5),  # 12.006..., so 13
        (1800, 1, 12),
        (1800, 5, 3),
        (1800, 50, 1),
        (3599, 3, 1),
        (3600, 3, 1),
        (9999, 3, 1),
        (100, 3, 8),  # 23.3, so 24
    ],
)
def test_slots_per_round(budget, rounds, expected):
    assert slots_per_round(make_space(12), budget, rounds) == expected


def test_the_rounds_of_the_released_code():
    # 3 rounds that remove 12 of 48 slots of the same size
    assert slots_per_round(make_space(24, 100, 100), 3600, 3) == 4


def test_removal_follows_the_order_and_stops_at_the_budget():
    space = make_space(3)  # 900
    order = [*sa(1), *pa(2), *sa(0), *pa(0, 1), *sa(2)]
    assert slots_to_remove(order, space.supernet, space, 600, None) == [*sa(1), *pa(2)]
    assert slots_to_remove(order, space.supernet, space, 500, None) == [*sa(1), *sa(0)]  # PA.2 fits again
    assert slots_to_remove(order, space.supernet, space, 499, None) == [*sa(1), *pa(2), *sa(0)]
    assert slots_to_remove(order, space.supernet, space, 599, 2) == [*sa(1), *pa(2)]
    assert slots_to_remove(order, space.supernet, space, 900, None) == []
    assert slots_to_remove(order, space.supernet, space, 700, 2) == sa(1)


def test_what_fits_again_after_a_large_slot_went_is_kept_the_least_prunable_first():
    space = make_space(3)  # 900: PA 100 each, SA 200 each
    order = [*pa(0, 1), *sa(0), *pa(2), *sa(1, 2)]
    # after both PA and SA.0, 500 are left of 650: PA.1 may stay, PA.0 then not
    assert slots_to_remove(order, space.supernet, space, 650, None) == [*pa(0), *sa(0)]
    # a round that removes a fixed number puts nothing back
    assert slots_to_remove(order, space.supernet, space, 450, 3) == [*pa(0, 1), *sa(0)]


def test_the_last_slot_that_fits_by_itself_is_kept():
    space = make_space(2)  # PA 100 each, SA 200 each
    order = [*pa(0, 1), *sa(0, 1)]
    assert slots_to_remove(order, space.supernet, space, 150, None) == [*pa(0), *sa(0, 1)]
    assert slots_to_remove(order, space.supernet, space, 150, 2) == [*pa(0), *sa(0)]


@given(st.integers(1, 9), st.integers(1, 50), st.integers(1, 50), st.data())
def test_what_is_left_fits_and_nothing_is_removed_in_vain(layers, cost_pa, cost_sa, data):
    space = make_space(layers, cost_pa, cost_sa)
    total = space.parameters(space.supernet)
    budget = data.draw(st.integers(min(cost_pa, cost_sa), total))
    order = data.draw(st.permutations(space.supernet.slots))
    removed = slots_to_remove(order, space.supernet, space, budget, None)
    rest = space.supernet.without(removed)
    assert len(rest) > 0
    assert space.parameters(rest) <= budget
    assert all(space.parameters(rest) + space.slot_parameters(slot) > budget for slot in removed)
    assert removed == [slot for slot in order if slot in removed]
    most = data.draw(st.integers(1, 5))
    first = slots_to_remove(order, space.supernet, space, budget, most)
    assert len(first) <= most
    assert space.parameters(space.supernet.without(first)) >= space.parameters(rest) or len(first) < most
