"""Whatever answers at an address, or nothing, is told in one line that says what would be right."""

import json
import socket
import threading

import pytest
from dashboards import answering, nodes_answer, ray_answers, status_answer

from prunepeft_ray.cluster import job_server
from prunepeft_ray.cluster.job_server import JobServer, check_address
from prunepeft_ray.cluster.tokens import Token
from prunepeft_ray.errors import InputError, RunError


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://head:8265", "http://head:8265"),
        ("http://head:8265/", "http://head:8265"),
        ("head:8265", "http://head:8265"),
        (" https://head:443 ", "https://head:443"),
        ("http://[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_addresses_may_be_short(written, meant):
    assert check_address(written) == meant


@pytest.mark.parametrize(
    "written", ["", "auto", "head", "http://head", "ray://head:10001", "http://head:port", "http://me:secret@head:1"]
)
def test_what_is_no_address_is_told(written):
    with pytest.raises(InputError, match=r"expected the address of a Ray cluster's dashboard, http://HEAD:8265"):
        check_address(written)


def test_nobody_answers():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(RunError, match=r"no Ray cluster answers at .*Connection refused"):
            JobServer(f"http://127.0.0.1:{taken.getsockname()[1]}", None)


def test_somebody_takes_the_call_and_never_answers(monkeypatch):
    monkeypatch.setattr(job_server, "ANSWER_SECONDS", 0.2)
    told = pytest.raises(RunError, match=r"no Ray cluster answers at .*timed out")
    with socket.create_server(("127.0.0.1", 0)) as silent, told:
        JobServer(f"http://127.0.0.1:{silent.getsockname()[1]}", None)


def test_it_is_no_web_server():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(b"\x00\x00\x18\x04\x00\x00\x00\x00\x00")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(RunError, match=r"the response is not HTTP"):
            JobServer(f"http://127.0.0.1:{server.getsockname()[1]}", None)


@pytest.mark.parametrize("page", ["<html>hello</html>", "[]", "{}"])
def test_it_is_another_web_server(page):
    with answering({"/api/version": page}) as address, pytest.raises(InputError, match="not the dashboard of a Ray"):
        JobServer(address, None)


def test_the_token_is_missing():
    with answering(ray_answers(), token="right") as address, pytest.raises(InputError, match="and none is set: put it"):
        JobServer(address, None)


def test_the_token_is_wrong():
    token = Token("wrong", "RAY_AUTH_TOKEN")
    refused = pytest.raises(InputError, match="rejected the token from RAY_AUTH_TOKEN")
    with answering(ray_answers(), token="right") as address, refused as told:
        JobServer(address, token)
    assert "wrong" not in str(told.value)


def test_living_nodes_are_listed():
    with answering(ray_answers(**{"/api/v0/nodes": json.dumps(nodes_answer())}), token="right") as address:
        found = JobServer(address, Token("right", "here")).nodes()
    assert [(node.host, node.is_head, node.resources) for node in found] == [
        ("10.0.0.1", True, {"CPU": 1.0}),
        ("10.0.0.3", False, {"CPU": 2.0, "GPU": 1.0}),
    ]


@pytest.mark.parametrize(
    ("kinds", "grows"),
    [
        (["node42Fbb7F7788340B5374B46A784Aec556F4C3714F03F36Cd7D627E514"], False),
        (["node_42fbb7f7788340b5374b46a784aec556f4c3714f03f36cd7d627e514"], False),
        (["headgroup"], True),
        (["headgroup", "cpuWorkers"], True),
        ([], False),
    ],
)
def test_an_autoscaler_shows_by_its_node_types(kinds, grows):
    answers = {"/api/cluster_status": json.dumps(status_answer(*kinds)), "/api/v0/nodes": json.dumps(nodes_answer())}
    with answering(ray_answers(**answers)) as address:
        assert JobServer(address, None).may_grow() is grows


def test_an_autoscaler_v2_shows_by_the_labels_of_its_nodes():
    nodes = nodes_answer()
    nodes["data"]["result"]["result"][0]["labels"] = {"ray.io/node-group": "headgroup"}
    answers = {"/api/cluster_status": json.dumps(status_answer()), "/api/v0/nodes": json.dumps(nodes)}
    with answering(ray_answers(**answers)) as address:
        assert JobServer(address, None).may_grow()


def test_a_file_of_logs_that_is_not_there_is_nothing():
    with answering(ray_answers()) as address:
        assert JobServer(address, None).log_file("node", "x") is None
