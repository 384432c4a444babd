"""Rendezvous of workers that train together, at a node's address in the cluster and no other address."""

from __future__ import annotations

import os
import socket
from datetime import timedelta

import psutil
import ray
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.constants import default_pg_timeout

from prunepeft_ray.errors import RunError
from prunepeft_ray.text import error_line
from prunepeft_ray.training import DistributedGroup

MEETING_SECONDS = 600
"""How long the workers of a group wait for each other when it starts."""


def listen_on_node() -> socket.socket:
    """In the first worker of a group, listen for the others at this node's address in the cluster.

    Torch's own store would listen at all addresses of the machine.

    Returns:
        A socket; the others need its host and port.

    Raises:
        RunError: If this machine does not have that address.
    """
    host = ray.util.get_node_ip_address()
    try:
        return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise RunError(f"cannot listen at the node's address {host}: {error_line(error)}; {_HOW_TO_NAME}") from error


def join_group(
    rank: int,
    world: int,
    address: tuple[str, int],
    listener: socket.socket | None = None,
    timeout: timedelta = default_pg_timeout,
) -> DistributedGroup:
    """Join a group of workers that train together.

    Args:
        rank: Rank of this worker.
        world: Number of workers.
        address: Host and port at which the first worker listens.
        listener: Socket of the first worker, from :func:`listen_on_node`; None in the others.
        timeout: How long a worker waits for the others once all have joined.

    Raises:
        RunError: If this machine does not have its node's address in the cluster.
        RuntimeError: If the others do not join in time.
    """
    interface = _interface(ray.util.get_node_ip_address())
    # by default gloo listens at the address of the host name, and NCCL on the first network interface
    os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")
    store = TCPStore(
        *address,
        world_size=world,
        is_master=listener is not None,
        timeout=timedelta(seconds=MEETING_SECONDS),
        master_listen_fd=None if listener is None else listener.detach(),
    )
    store.set_timeout(timeout)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
    return DistributedGroup()


_HOW_TO_NAME = "start Ray there with --node-ip-address and an address of that machine"


def _interface(address: str) -> str:
    for name, found in psutil.net_if_addrs().items():
        if address in {one.address for one in found}:
            return str(name)
    raise RunError(f"no network interface of {socket.gethostname()} has the node's address {address}; {_HOW_TO_NAME}")
