"""What fits on the cluster of all tests, of a few CPUs and no GPU; and how Ray's autoscaler is noticed."""

import json

import pytest
from dashboards import answering, nodes_answer, ray_answers

from prunepeft_ray.cluster import Terms
from prunepeft_ray.cluster import capacity as room
from prunepeft_ray.cluster.job_server import JobServer
from prunepeft_ray.errors import InputError


def test_what_the_cluster_holds_is_let_pass(cluster):
    room.check_room(room.worker_needs(2, False))
    room.check_room(room.job_needs([{"CPU": 1}, {"CPU": 1}]))
    assert room.room_for_jobs([{"CPU": 0.5}] * 2) == room.room_for_workers(False) >= 2
    assert room.room_for_jobs([{"CPU": 1000}]) == 1
    assert not room.has_gpu(Terms(gpus=1))


WRONG = {
    "workers": (
        room.worker_needs(1, True),
        r"a worker needs 1 GPU, but the cluster has \d+ CPUs: ask for less, or add",
    ),
    "sum": (room.job_needs([{"CPU": 600}] * 2), r"a training job needs 2 workers of 600 CPUs each .*, but the cluster"),
    "kind": (room.job_needs([{"CPU": 1, "GPU": 1}]), r"a training job needs 1 CPU and 1 GPU .*, but the cluster has"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_can_never_fit_is_refused_with_what_is_missing(cluster, name):
    needs, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        room.check_room(needs)


@pytest.mark.parametrize("name", WRONG)
def test_what_an_autoscaler_may_bring_is_waited_for(cluster, monkeypatch, name):
    monkeypatch.setattr(room, "may_grow", lambda: True)
    room.check_room(WRONG[name][0])
    assert room.has_gpu(Terms(gpus=1))


def test_room_that_is_scattered_over_nodes_is_none(monkeypatch):
    monkeypatch.setattr(room, "nodes", lambda: [{"CPU": 2}, {"CPU": 2}])
    monkeypatch.setattr(room, "may_grow", lambda: False)
    with pytest.raises(InputError, match=r"needs 3 CPUs .* has 4 CPUs on 2 nodes, at most 2 CPUs on one"):
        room.check_room(room.job_needs([{"CPU": 3}]))


def test_limits_below_what_one_job_needs_are_refused():
    room.check_limits([{"CPU": 1}] * 2, Terms(cpus=2, gpus=1))
    with pytest.raises(InputError, match="at most 1 CPU: expected at least 2, which a single job needs"):
        room.check_limits([{"CPU": 1}] * 2, Terms(cpus=1))
    with pytest.raises(InputError, match=r"at most 0\.5 GPUs: expected at least 1"):
        room.check_limits([{"GPU": 1}], Terms(gpus=0.5))


BY_HAND = f"node_{'0a' * 28}"
STATUS = {
    "nothing yet": ({}, {}, False),
    "started by hand": ({"active_nodes": {BY_HAND: 1}}, {"ray.io/node-id": "0a"}, False),
    "by the autoscaler v1": ({"active_nodes": {"head": 1}}, {}, True),
    "about to be, by v1": ({"active_nodes": {BY_HAND: 1}, "pending_launches": {"worker": 1}}, {}, True),
    "by the autoscaler v2": ({}, {"ray.io/node-group": "headgroup"}, True),
}


@pytest.mark.parametrize("name", STATUS)
def test_client_and_driver_give_the_same_answer_about_an_autoscaler(monkeypatch, name):
    report, labels, expected = STATUS[name]
    kept = json.dumps({"autoscaler_report": report}).encode()
    monkeypatch.setattr("ray.experimental.internal_kv._internal_kv_get", lambda key: kept)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Labels": labels}])
    assert room.may_grow() is expected
    spelled = {"".join([key.split("_")[0], *map(str.capitalize, key.split("_")[1:])]): v for key, v in report.items()}
    nodes = nodes_answer()
    nodes["data"]["result"]["result"][0]["labels"] = labels
    answers = {
        "/api/v0/nodes": nodes,
        "/api/cluster_status": {"data": {"clusterStatus": {"autoscalerReport": spelled}}},
    }
    with answering(ray_answers(**{path: json.dumps(answer) for path, answer in answers.items()})) as address:
        assert JobServer(address, None).may_grow() is expected
