import random
import time
from collections import Counter
from itertools import combinations

import pytest
from baseline_toys import make_problem, space_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

import prunepeft_baselines.sampling as sampling
from prunepeft_baselines.sampling import FeasibleSampler
from prunepeft_ray import InputError


def slots_named(costs):
    """Costs by slot, PA first; the name says nothing about the cost here."""
    return {f"{'PA' if i % 2 == 0 else 'SA'}.{i // 2}": cost for i, cost in enumerate(costs)}


def within(space, budget):
    """Every architecture within the budget, by trying all."""
    slots = space.supernet.slots
    subsets = (space.supernet.without(gone) for n in range(len(slots)) for gone in combinations(slots, n))
    return {subset for subset in subsets if space.parameters(subset) <= budget}


spaces = st.lists(st.integers(1, 40), min_size=1, max_size=9).map(lambda costs: space_of(slots_named(costs)))


@given(spaces, st.integers(1, 200))
def test_the_count_is_that_of_trying_all(space, budget):
    smallest = min(map(space.slot_parameters, space.supernet.slots))
    if budget < smallest:
        with pytest.raises(InputError, match=f"is too small for any slot: the smallest has {smallest}"):
            FeasibleSampler(space, budget)
    else:
        assert FeasibleSampler(space, budget).count == len(within(space, budget))


@given(spaces, st.integers(40, 200), st.integers(0, 5))
def test_asking_for_all_gives_each_once(space, budget, seed):
    sampler = FeasibleSampler(space, budget)
    drawn = sampler.distinct(random.Random(seed), sampler.count + 3)
    assert len(drawn) == sampler.count
    assert set(drawn) == within(space, budget)


@pytest.mark.parametrize("units", [8192, 4])
def test_all_are_equally_likely_on_a_fine_and_on_a_coarse_grid(monkeypatch, units):
    monkeypatch.setattr(sampling, "MAX_UNITS", units)
    space, budget = space_of(slots_named([3, 5, 5, 7, 11, 13])), 17
    rng = random.Random(0)
    expected = within(space, budget)
    sampler = FeasibleSampler(space, budget)
    seen = Counter(sampler.sample(rng) for _ in range(200 * len(expected)))
    assert set(seen) == expected
    assert chisquare(list(seen.values())).pvalue > 0.01


def test_hand_counted():
    # of {2, 3, 4}: 2, 3, 4, 2+3, 2+4 are at most 6; 3+4 and 2+3+4 are not
    assert FeasibleSampler(space_of(slots_named([2, 3, 4])), 6).count == 5


def test_a_budget_above_the_supernet_allows_every_subset():
    assert FeasibleSampler(space_of(slots_named([2, 3, 4])), 10**9).count == 7


def test_the_same_seed_draws_the_same_and_another_does_not():
    problem = make_problem(layers=12)
    first, again, other = (
        FeasibleSampler(problem.space, problem.budget).distinct(random.Random(seed), 5) for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("costs", [[98304, 99072] * 30, [90_001 + 7 * i * i for i in range(60)]])
def test_sixty_slots_of_equal_and_of_odd_costs_are_quick(costs):
    space = space_of(slots_named(costs))
    begin = time.process_time()
    sampler = FeasibleSampler(space, sum(costs) // 3)
    drawn = sampler.distinct(random.Random(0), 200)
    assert time.process_time() - begin < 5
    assert len(set(drawn)) == 200
    assert all(space.parameters(architecture) <= sum(costs) // 3 for architecture in drawn)
    assert 2**50 < sampler.count < 2**60
