"""What runs are told of their claims, and why they wait."""

import pytest

from prunepeft_ray.cluster.sharing.fairness import Claim
from prunepeft_ray.cluster.sharing.ledger import CLAIM_SECONDS, Answer, Ledger

CPU, GPU = ({"CPU": 1.0},), ({"GPU": 1.0},)
THREE = [{"CPU": 2.0}, {"CPU": 1.0}]


def claim(job, unit=CPU, units=9, priority=0, begun=False, since=0.0, **limits):
    return Claim(job, since, priority, unit, units, begun, **limits)


@pytest.fixture
def ledger():
    return Ledger()


def test_a_run_that_begins_when_others_run_gets_its_part(ledger):
    assert ledger.renew("1", claim("a"), 0, THREE, False) == Answer(3)
    assert ledger.renew("2", claim("b"), 1, THREE, False) == Answer(1)
    assert ledger.renew("1", claim("a"), 2, THREE, False) == Answer(2)


def test_one_that_waits_is_told_who_has_what_it_waits_for(ledger):
    three = [{"CPU": 3.0}]
    ledger.renew("1", claim("movie"), 0, three, False)
    ledger.renew("2", claim("trec", priority=2), 1, three, False)
    needs_two = claim("late", CPU * 2, since=2)
    full = "waiting for 2 CPUs: trec (priority 2) holds 2 of the cluster's 3 CPUs, movie (priority 0) 1"
    assert ledger.renew("3", needs_two, 2, three, False) == Answer(0, full)
    # and of those that wait, who comes first
    later = ledger.renew("4", claim("later", CPU * 2, since=3), 3, three, False)
    assert later == Answer(0, f"{full}; late (priority 0) comes first")
    last = ledger.renew("5", claim("last", CPU * 2, since=4), 4, three, False)
    assert last == Answer(0, f"{full}; late (priority 0) and 1 more come first")


MISSING = {
    "none": (GPU, [{"CPU": 1.0}], "waiting for 1 GPU: the cluster has none now"),
    "too few": (({"GPU": 1.0},) * 4, [{"GPU": 2.0}], "waiting for 4 GPUs: the cluster has 2 now"),
    "no node with enough": (
        ({"GPU": 2.0},),
        [{"GPU": 1.0}] * 2,
        "waiting for 2 GPUs: no node of the cluster is large enough",
    ),
    "CPUs beside GPUs": (
        ({"CPU": 4.0, "GPU": 1.0},),
        [{"CPU": 2.0, "GPU": 1.0}],
        "waiting for 4 CPUs: the cluster has 2 now",
    ),
    "no nodes": (CPU, [], "waiting for 1 CPU: the cluster has none now"),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_the_cluster_lacks_is_said_and_whether_it_may_come(ledger, name):
    unit, nodes, expected = MISSING[name]
    assert ledger.renew("1", claim("a", unit), 0, nodes, False) == Answer(0, expected)
    assert ledger.renew("1", claim("a", unit), 0, nodes, True).reason == f"{expected} (an autoscaler may add nodes)"


def test_many_holders_are_summed_up(ledger):
    nodes = [{"CPU": 5.0}]
    for number in range(5):
        ledger.renew(str(number), claim(f"run {number}", since=number - 9), 0, nodes, False)
    told = ledger.renew("late", claim("late"), 1, nodes, False).reason
    assert told == (
        "waiting for 1 CPU: run 0 (priority 0) holds 1 of the cluster's 5 CPUs, run 1 (priority 0) 1, "
        "run 2 (priority 0) 1, 2 more 2"
    )


def test_who_was_granted_a_unit_is_not_pushed_back_by_one_that_comes(ledger):
    one = [{"CPU": 1.0}]
    assert ledger.renew("1", claim("a"), 0, one, False) == Answer(1)
    assert ledger.renew("2", claim("b", priority=10), 1, one, False).units == 0
    assert ledger.renew("1", claim("a"), 2, one, False) == Answer(1)


def test_a_claim_that_is_not_renewed_is_forgotten(ledger):
    one = [{"CPU": 1.0}]
    ledger.renew("1", claim("a"), 0, one, False)
    assert ledger.renew("2", claim("b"), CLAIM_SECONDS, one, False).units == 0
    assert ledger.renew("2", claim("b"), CLAIM_SECONDS + 0.1, one, False).units == 1


def test_a_run_that_leaves_makes_room(ledger):
    ledger.renew("1", claim("a"), 0, THREE, False)
    assert ledger.renew("2", claim("b"), 1, THREE, False) == Answer(1)
    ledger.leave("1")
    ledger.leave("never came")
    assert ledger.renew("2", claim("b"), 2, THREE, False) == Answer(3)


def test_runs_of_the_same_name_are_different_runs(ledger):
    assert ledger.renew("aaaaaaaa", claim("a"), 0, THREE, False) == Answer(3)
    assert ledger.renew("bbbbbbbb", claim("a"), 1, THREE, False) == Answer(1)
    assert ledger.renew("aaaaaaaa", claim("a"), 2, THREE, False) == Answer(2)
    assert ledger.renew("c", claim("c"), 3, [{"CPU": 2.0}], False).reason == (
        "waiting for 1 CPU: a (priority 0) holds 1 of the cluster's 2 CPUs, a-bbbbbb (priority 0) 1"
    )


def test_a_new_ledger_hears_those_that_run_before_anybody_begins():
    """As after the death of an arbiter, whoever claims first."""
    ledger, two = Ledger(opens=63), [{"CPU": 2.0}]
    assert ledger.renew("new", claim("new", priority=9, since=50.0), 60, two, False) == Answer(0)
    assert ledger.renew("1", claim("a", begun=True), 61, two, False) == Answer(1)
    assert ledger.renew("2", claim("b", begun=True), 62, two, False) == Answer(1)
    assert ledger.renew("new", claim("new", priority=9), 63, two, False).reason.startswith("waiting for 1 CPU: a ")


def test_all_that_could_be_used_within_limits_is_wanted(ledger):
    ledger.renew("1", claim("a", units=3, cpus=2), 0, [], True)
    ledger.renew("2", claim("b", ({"CPU": 1.0, "GPU": 1.0},) * 2, units=1), 0, [], True)
    assert ledger.wanted == [{"CPU": 1.0}] * 2 + [{"CPU": 1.0, "GPU": 1.0}] * 2
