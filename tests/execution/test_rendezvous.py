"""Workers meet at their node's address; test_listening.py and test_service_bench.py look at several of them."""

import os

import pytest
import ray
import torch
from listening import beyond_loopback, listening

from prunepeft_ray.errors import RunError
from prunepeft_ray.execution.rendezvous import join_group, listen_on_node

ELSEWHERE = "192.0.2.77"
"""An address for documentation, which no machine has."""


@pytest.fixture
def node(monkeypatch):
    """Sets the address by which Ray knows this node."""
    for library in ("GLOO", "NCCL"):
        # so that they are as before afterwards, whatever is set meanwhile
        monkeypatch.setenv(f"{library}_SOCKET_IFNAME", "")
        monkeypatch.delenv(f"{library}_SOCKET_IFNAME")
    return lambda address: monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: address)


@pytest.fixture
def group(node):
    """Joins a group of one, which ends after the test."""
    node("127.0.0.1")

    def join():
        listener = listen_on_node()
        return join_group(0, 1, listener.getsockname(), listener)

    yield join
    torch.distributed.destroy_process_group()


def test_only_the_interface_of_the_node_is_used(group):
    before = listening([os.getpid()])[os.getpid()]
    assert group().gather("here") == ["here"]
    after = listening([os.getpid()])
    assert len(after[os.getpid()]) - len(before) >= 1
    assert beyond_loopback(after) == {}
    assert (os.environ["GLOO_SOCKET_IFNAME"], os.environ["NCCL_SOCKET_IFNAME"]) == ("lo", "=lo")


def test_an_interface_that_the_user_names_is_left(group, monkeypatch):
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    group()
    assert os.environ["NCCL_SOCKET_IFNAME"] == "ib0"


@pytest.mark.parametrize("meet", [listen_on_node, lambda: join_group(1, 2, (ELSEWHERE, 1))], ids=["listen", "join"])
def test_an_address_that_this_machine_has_not_is_a_clear_line(node, meet):
    node(ELSEWHERE)
    with pytest.raises(RunError, match=rf"{ELSEWHERE}.*start Ray there with --node-ip-address") as refused:
        meet()
    assert "\n" not in str(refused.value)
