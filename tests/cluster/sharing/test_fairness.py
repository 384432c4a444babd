"""Who gets how much of a cluster: worked out by hand, and what must hold for any claims."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunepeft_ray.cluster.resources import fits, total
from prunepeft_ray.cluster.sharing.fairness import AGING_SECONDS, Claim, share_out

CPU = ({"CPU": 1},)
GPU = ({"CPU": 1, "GPU": 1},)


def claim(job, since=0.0, priority=0, unit=CPU, units=99, begun=False, cpus=None, gpus=None):
    return Claim(job, since, priority, unit, units, begun, cpus, gpus)


def running(job, **changes):
    return claim(job, begun=True, **changes)


BY_HAND = {
    "one takes all": ([claim("a")], [{"CPU": 2}, {"CPU": 1}], {"a": 3}),
    "two halves": ([running("a"), claim("b", 1)], [{"CPU": 4}], {"a": 2, "b": 2}),
    "the odd one goes to who came first": ([running("b"), claim("a", 1)], [{"CPU": 3}], {"a": 1, "b": 2}),
    "a priority of 1 is twice the share": (
        [running("a", priority=1), running("b", since=1)],
        [{"CPU": 6}],
        {"a": 4, "b": 2},
    ),
    "what one cannot use the other gets": ([running("a", units=1), running("b")], [{"CPU": 4}], {"a": 1, "b": 3}),
    "a limit of CPUs": ([running("a", cpus=2.5), running("b")], [{"CPU": 6}], {"a": 2, "b": 4}),
    "a limit of GPUs": ([claim("a", unit=GPU, gpus=1)], [{"CPU": 8, "GPU": 4}], {"a": 1}),
    "a limit below a unit": ([claim("a", unit=GPU, gpus=0.5)], [{"CPU": 8, "GPU": 4}], {"a": 0}),
    "who runs is not thrown out": (
        [running("a"), running("b"), claim("c", priority=10)],
        [{"CPU": 2}],
        {"a": 1, "b": 1, "c": 0},
    ),
    "the higher priority begins first": (
        [running("a"), claim("b", 1), claim("c", 2, priority=1)],
        [{"CPU": 2}],
        {"a": 1, "b": 0, "c": 1},
    ),
    "a smaller one goes past one that finds no room": (
        [running("a"), claim("b", 1, unit=CPU * 3), claim("c", 2)],
        [{"CPU": 3}],
        {"a": 2, "b": 0, "c": 1},
    ),
    # Ghodsi et al., section 4.1: 9 CPUs, 18 GB; tasks of <1 CPU, 4 GB> and <3 CPUs, 1 GB>
    "the example of the paper": (
        [running("a", unit=({"CPU": 1, "memory": 4},)), running("b", unit=({"CPU": 3, "memory": 1},))],
        [{"CPU": 9, "memory": 18}],
        {"a": 3, "b": 2},
    ),
    "no node holds a bundle that the sum would": ([claim("a", unit=({"GPU": 2},))], [{"GPU": 1}] * 4, {"a": 0}),
    "bundles of a unit on several nodes": ([claim("a", unit=({"GPU": 1},) * 2)], [{"GPU": 1}] * 5, {"a": 2}),
    "CPU work keeps off GPU nodes": (
        [claim("a", units=1), claim("b", 1, unit=GPU)],
        [{"CPU": 1, "GPU": 1}, {"CPU": 1}],
        {"a": 1, "b": 1},
    ),
    "fractions add up": ([claim("a", unit=({"CPU": 0.1},))], [{"CPU": 1}], {"a": 10}),
    "an empty cluster": ([claim("a"), running("b")], [], {"a": 0, "b": 0}),
    "nobody": ([], [{"CPU": 1}], {}),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_shares_worked_out_by_hand(name):
    claims, nodes, expected = BY_HAND[name]
    assert share_out(claims, nodes, now=10) == expected


def test_waiting_counts_like_priority():
    """One that came a level's worth of time ago goes before one of the next priority that has just come."""
    long_ago, important = claim("a", 0), claim("b", AGING_SECONDS + 1, priority=1)
    assert share_out([long_ago, important], [{"CPU": 1}], AGING_SECONDS + 1) == {"a": 1, "b": 0}
    assert share_out([replace(long_ago, since=2), important], [{"CPU": 1}], AGING_SECONDS + 1) == {"a": 0, "b": 1}


def test_one_that_has_waited_for_long_holds_back_smaller_ones_but_not_those_that_run():
    big, small = claim("big", 0, unit=CPU * 3), claim("small", 0)
    assert share_out([running("a"), big, small], [{"CPU": 3}], AGING_SECONDS) == {"a": 3, "big": 0, "small": 0}
    # unless it can never fit
    never = replace(big, unit=CPU * 4)
    assert share_out([running("a"), never, small], [{"CPU": 3}], AGING_SECONDS) == {"a": 2, "big": 0, "small": 1}


def test_a_unit_fits_only_where_each_of_its_bundles_finds_a_node():
    assert fits(CPU * 3, [{"CPU": 2}, {"CPU": 1}])
    assert not fits(({"CPU": 3},), [{"CPU": 2}, {"CPU": 1}])
    assert not fits(GPU, [{"CPU": 2}])


# --- any claims

amounts = st.sampled_from([0.5, 1, 2, 3])
bundles = st.one_of(
    st.builds(lambda cpu: {"CPU": cpu}, amounts), st.builds(lambda cpu, gpu: {"CPU": cpu, "GPU": gpu}, amounts, amounts)
)
units_of_work = st.lists(bundles, min_size=1, max_size=3).map(tuple)
clusters = st.lists(
    st.builds(lambda cpu, gpu: {"CPU": cpu, "GPU": gpu}, st.integers(0, 8), st.integers(0, 4)), max_size=5
)


def named(claims):
    return [replace(found, job=f"job {number}") for number, found in enumerate(claims)]


def some(unit):
    return st.lists(
        st.builds(
            Claim,
            job=st.just(""),
            since=st.floats(0, 2 * AGING_SECONDS),
            priority=st.integers(-10, 10),
            unit=unit,
            units=st.integers(0, 6),
            begun=st.booleans(),
            cpus=st.none() | st.floats(0.1, 8),
            gpus=st.none() | st.floats(0.1, 8),
        ),
        max_size=6,
    ).map(named)


NOW = 2 * AGING_SECONDS


@given(some(units_of_work), clusters)
def test_nobody_gets_more_than_there_is_or_than_it_may_use(claims, nodes):
    units = share_out(claims, nodes, NOW)
    assert units.keys() == {found.job for found in claims}
    taken = total(bundle for found in claims for bundle in found.unit * units[found.job])
    there = total(nodes)
    assert all(amount <= there[kind] + 1e-6 for kind, amount in taken.items())
    assert all(0 <= units[found.job] <= found.max_units for found in claims)


@given(some(units_of_work), clusters, st.randoms(use_true_random=False))
def test_the_order_of_claims_and_nodes_does_not_matter(claims, nodes, random):
    expected = share_out(claims, nodes, NOW)
    random.shuffle(claims)
    random.shuffle(nodes)
    assert share_out(claims, nodes, NOW) == expected


ones = st.just(CPU)
sizes = st.integers(0, 12)


@given(some(ones), sizes)
def test_nothing_is_left_that_anybody_could_use(claims, size):
    units = share_out(claims, [{"CPU": size}], NOW)
    assert sum(units.values()) == min(size, sum(found.max_units for found in claims))


@given(some(ones), sizes)
def test_who_has_begun_keeps_a_unit_whenever_there_is_one_for_each(claims, size):
    begun = [found for found in claims if found.begun and found.max_units]
    units = share_out(claims, [{"CPU": size}], NOW)
    if len(begun) <= size:
        assert all(units[found.job] >= 1 for found in begun)


@given(some(ones), sizes, st.data())
def test_a_higher_priority_never_means_less(claims, size, data):
    if not claims:
        return
    chosen = data.draw(st.sampled_from(claims))
    raised = [replace(found, priority=found.priority + (found is chosen)) for found in claims]
    nodes = [{"CPU": size}]
    assert share_out(raised, nodes, NOW)[chosen.job] >= share_out(claims, nodes, NOW)[chosen.job]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-10, 10)), min_size=1, max_size=5))
def test_nobody_starves_however_many_important_ones_keep_coming(patient):
    """Every minute a small job of the highest priority comes, and each job trains for ten: all the first begin."""
    size, length, minute = 3, 600, 60
    waiting = [claim(f"patient {n}", 0, p, CPU * u, units=1) for n, (u, p) in enumerate(patient)]
    ends: dict[str, float] = {}
    known = {found.job: found for found in waiting}
    for now in range(0, 60 * 24 * minute, minute):
        known[f"new {now}"] = claim(f"new {now}", now, 10, units=1)
        known = {job: found for job, found in known.items() if ends.get(job, now + 1) > now}
        for job, units in share_out(known.values(), [{"CPU": size}], now).items():
            if units and job not in ends:
                ends[job] = now + length
                known[job] = replace(known[job], begun=True)
        if all(found.job in ends for found in waiting):
            return
    raise AssertionError(set(known) - set(ends))
