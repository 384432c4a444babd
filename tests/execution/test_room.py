"""What fits on the cluster of all tests, of a few CPUs and no GPU; and how Ray's autoscaler is noticed."""

import json

import pytest

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.execution import Terms, room


def test_what_the_cluster_holds_is_let_pass(cluster):
    room.check_room(2, False)
    room.check_job_fits([{"CPU": 1}, {"CPU": 1}])
    assert room.room_for_jobs([{"CPU": 0.5}] * 2) == room.room_for_workers(False) >= 2
    assert room.room_for_jobs([{"CPU": 1000}]) == 1
    assert not room.has_gpu(Terms(gpus=1))


WRONG = {
    "workers": (
        lambda: room.check_room(1, True),
        r"1 worker needs 1 GPU, but the cluster has 0: give a smaller --work",
    ),
    "sum": (lambda: room.check_job_fits([{"CPU": 600}] * 2), r"a job needs 1200 CPUs, but the cluster has \d+: give a"),
    "kind": (lambda: room.check_job_fits([{"CPU": 1, "GPU": 1}]), "a job needs 1 GPUs, but the cluster has 0: give a"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_can_never_fit_is_refused_with_what_is_missing(cluster, name):
    check, message = WRONG[name]
    with pytest.raises(RunError, match=message):
        check()


@pytest.mark.parametrize("name", WRONG)
def test_what_an_autoscaler_may_bring_is_waited_for(cluster, monkeypatch, name):
    monkeypatch.setattr(room, "may_grow", lambda: True)
    WRONG[name][0]()
    assert room.has_gpu(Terms(gpus=1))


def test_room_that_is_scattered_over_nodes_is_none(monkeypatch):
    monkeypatch.setattr(room, "nodes", lambda: [{"CPU": 2}, {"CPU": 2}])
    monkeypatch.setattr(room, "may_grow", lambda: False)
    with pytest.raises(RunError, match="each worker of a job needs 3 CPUs on one node, and no 1 fit on the cluster"):
        room.check_job_fits([{"CPU": 3}])


def test_limits_below_what_one_job_needs_are_refused():
    room.check_limits([{"CPU": 1}] * 2, Terms(cpus=2, gpus=1))
    with pytest.raises(InputError, match="at most 1 CPU: expected at least 2, which one job needs at once"):
        room.check_limits([{"CPU": 1}] * 2, Terms(cpus=1))
    with pytest.raises(InputError, match=r"at most 0\.5 GPUs: expected at least 1"):
        room.check_limits([{"GPU": 1}], Terms(gpus=0.5))


STATUS = {
    "nothing yet": ({}, False),
    "started by hand": ({"autoscaler_report": {"active_nodes": {f"node_{'0a' * 28}": 1}}}, False),
    "by an autoscaler": ({"autoscaler_report": {"active_nodes": {"head": 1}}}, True),
}


@pytest.mark.parametrize("name", STATUS)
def test_an_autoscaler_is_known_by_the_types_of_its_nodes(cluster, monkeypatch, name):
    status, expected = STATUS[name]
    monkeypatch.setattr("ray.experimental.internal_kv._internal_kv_get", lambda key: json.dumps(status).encode())
    assert room.may_grow() is expected
