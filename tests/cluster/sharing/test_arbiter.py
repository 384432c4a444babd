"""The arbiter as an actor of a real cluster, and a run's claim on it."""

import signal

import pytest
import ray

from prunepeft_ray.cluster import Terms
from prunepeft_ray.cluster.sharing import claim as claiming
from prunepeft_ray.cluster.sharing.arbiter import NAME, NAMESPACE, Arbiter, find_arbiter
from prunepeft_ray.cluster.sharing.claim import WholeCluster, wait_for_share
from prunepeft_ray.errors import RunError, Terminated
from prunepeft_ray.execution.session import share_of_cluster
from prunepeft_ray.signals import StopRequest
from prunepeft_ray.waiting import wait_until

CPU = [{"CPU": 1.0}]


SECONDS = 200


@pytest.fixture
def arbiter(cluster):
    """The cluster's arbiter, made for one test."""
    found = find_arbiter()
    yield found
    ray.kill(found)


def test_runs_claim_shares_of_the_whole_cluster_and_give_them_back(arbiter):
    total = int(ray.cluster_resources()["CPU"])
    with claiming.claiming(Terms("one"), CPU, 99) as one:
        wait_until(lambda: one.units == total, SECONDS, "one does not get all")
        with claiming.claiming(Terms("other", cpus=1), CPU, 99) as other:
            wait_until(lambda: (one.units, other.units) == (total - 1, 1), SECONDS, "other gets nothing")
        wait_until(lambda: one.units == total, SECONDS, "one does not get all")
        # it wants less, and after some seconds has less
        one.wants(1)
        wait_until(lambda: one.units == 1, SECONDS, "one keeps what it does not want")


def test_a_run_that_holds_its_share_goes_on_when_the_arbiter_is_killed(arbiter):
    told = []
    with claiming.claiming(Terms("one"), CPU, 1) as one:
        wait_for_share(one, told.append, StopRequest())
        assert [(event.type, event.resources) for event in told] == [("share", {"CPU": 1.0})]
        ray.kill(arbiter)
        wait_until(lambda: _is_another(arbiter), SECONDS, "no other arbiter starts")
        assert one.units == 1


def _is_another(arbiter):
    try:
        return ray.get_actor(NAME, NAMESPACE)._actor_id != arbiter._actor_id
    except ValueError:
        return False


def test_one_that_waits_says_for_what_and_ends_at_a_signal(arbiter):
    told, request = [], StopRequest()

    def tell(event):
        told.append((event.type, event.text))
        request.signal = signal.SIGTERM

    with claiming.claiming(Terms("one"), [{"GPU": 1.0}], 1) as one, pytest.raises(Terminated):
        wait_for_share(one, tell, request)
    assert told == [("waiting", "waiting for 1 GPU: the cluster has none now")]


def test_an_arbiter_that_never_starts_is_told_in_one_line(cluster, monkeypatch):
    monkeypatch.setattr(claiming, "SILENCE_SECONDS", 0.0)
    monkeypatch.setattr("prunepeft_ray.cluster.sharing.arbiter.find_arbiter", lambda: 1 / 0)
    with claiming.claiming(Terms("one"), CPU, 1) as one:
        wait_until(lambda: "zero" in one._error, SECONDS, lambda: f"no error but {one._error!r}")
        with pytest.raises(RunError, match="does not start on the head node: division by zero; is prunepeft-ray"):
            wait_for_share(one, lambda event: None, StopRequest())


def test_an_arbiter_that_nobody_needs_ends_itself(cluster):
    idle = ray.remote(num_cpus=0)(Arbiter).remote(idle_seconds=0.5)

    def is_gone():
        try:
            ray.get(idle.leave.remote("nobody"))
        except ray.exceptions.RayActorError:
            return True
        return False

    wait_until(is_gone, SECONDS, "the arbiter stays")


def test_a_cluster_of_our_own_is_not_shared(cluster):
    with share_of_cluster(Terms("one", cpus=0.5), CPU, 3) as share:
        assert isinstance(share, WholeCluster)
        share.wants(1)
        assert share.units == 3
    with pytest.raises(ValueError, match=NAME):
        ray.get_actor(NAME, NAMESPACE)
