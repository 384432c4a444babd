import random
from collections import Counter

import pytest
from baseline_toys import make_problem
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from prunepeft_baselines.random_pruning import NO_PRUNING, RANDOM_PRUNING, RANDOM_PRUNING_BALANCED, balanced_order
from prunepeft_ray import InputError, NoOptions, partition_of

each = pytest.mark.parametrize("info", [RANDOM_PRUNING, RANDOM_PRUNING_BALANCED], ids=["plain", "balanced"])


def build(info, problem):
    return info.build(problem, NoOptions())


@each
def test_it_is_done_at_once_without_any_work(info):
    method = build(info, make_problem(layers=6))
    assert method.done
    assert method.ask() == ()
    assert method.planned == 0
    assert list(method.decisions) == []


@each
def test_the_same_seed_removes_the_same_and_others_do_not(info):
    assert build(info, make_problem(layers=12)).best() == build(info, make_problem(layers=12)).best()
    assert len({build(info, make_problem(layers=12, seed=seed)).best() for seed in range(8)}) == 8


@each
@given(
    layers=st.integers(4, 9),
    share=st.floats(0.02, 1.1),
    seed=st.integers(0, 10**6),
    rounds=st.integers(1, 4),
    bottleneck=st.integers(1, 40),
)
def test_it_ends_within_the_budget_and_removes_no_more_than_it_must(info, layers, share, seed, rounds, bottleneck):
    settings = {"space": {"bottleneck": bottleneck}, "pruning": {"rounds": rounds}}
    whole = make_problem(layers, **settings)
    budget = int(share * whole.space.parameters(whole.space.supernet))
    problem = make_problem(layers, budget=budget, seed=seed, **settings)
    space = problem.space
    costs = [space.slot_parameters(slot) for slot in space.supernet.slots]
    if budget < min(costs):
        with pytest.raises(InputError, match="is too small for any slot"):
            build(info, problem)
        return
    best = build(info, problem).best()
    assert 0 < problem.parameters(best) <= budget
    if rounds == 1:
        removed = [slot for slot in space.supernet.slots if slot not in best]
        assert all(problem.parameters(best) + space.slot_parameters(slot) > budget for slot in removed)


def test_plain_removal_treats_all_slots_alike():
    problems = (make_problem(layers=4, kinds=["PA"], seed=seed) for seed in range(600))
    kept = Counter(slot for problem in problems for slot in build(RANDOM_PRUNING, problem).best().slots)
    assert len(kept) == 4
    assert chisquare(list(kept.values())).pvalue > 0.01


@given(layers=st.integers(4, 24), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_every_beginning_of_the_balanced_order_has_the_same_share_of_each_partition(layers, seed, share):
    problem = make_problem(layers=layers)
    order = balanced_order(problem, random.Random(seed))
    partitions = partition_of(problem.space.supernet.slots, layers)
    sizes = Counter(partitions.values())
    begun = Counter(partitions[slot] for slot in order[: round(share * len(order))])
    assert sorted(order) == list(problem.space.supernet.slots)
    assert all(abs(begun[p] - share * size) <= 1.5 for p, size in sizes.items())


def test_in_the_balanced_order_large_partitions_begin_and_small_ones_follow():
    # 12 layers of one kind: blocks of 2, 4, 4, 2; places 1/8, 3/8, 5/8, 7/8 of the large, 1/4, 3/4 of the small
    partitions = partition_of(make_problem(layers=12, kinds=["PA"]).space.supernet.slots, 12)
    sizes = Counter(partitions.values())
    order = balanced_order(make_problem(layers=12, kinds=["PA"]), random.Random(0))
    assert [sizes[partitions[slot]] for slot in order] == [4, 4, 2, 2, 4, 4, 4, 4, 2, 2, 4, 4]


def test_balanced_pruning_of_half_the_slots_halves_every_partition():
    # 12 layers: blocks of 2, 4, 4, 2; one kind, so every slot costs the same
    problem = make_problem(layers=12, kinds=["PA"], seed=5)
    best = build(RANDOM_PRUNING_BALANCED, problem).best()
    partitions = partition_of(best.slots, 12)
    assert sorted(Counter(partitions.values()).values()) == [1, 1, 2, 2]


def test_no_pruning_is_the_supernet_and_a_reference():
    problem = make_problem()
    method = build(NO_PRUNING, problem)
    assert method.done
    assert method.best() == problem.space.supernet
    assert not problem.fits(method.best())
    assert NO_PRUNING.reference
