"""Where workers that train together meet: at a node's own address in the cluster and at no other."""

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
from prunepeft_ray.text import one_line
from prunepeft_ray.training import DistributedGroup

MEETING_SECONDS = 600
"""How long the workers of a group wait for each other when it starts."""


def listen_on_node() -> socket.socket:
    """Listen for the other workers of a group, in its first one, at this node's address in the cluster.

    Torch's own store would listen at every address of the machine.

    Returns:
        A socket; its name is what the others need.

    Raises:
        RunError: If this machine does not have that address.
    """
    host = ray.util.get_node_ip_address()
    try:
        return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise RunError(f"the node's address {host} cannot be listened at: {one_line(error)}; {_HOW_TO_NAME}") from error


def join_group(
    rank: int,
    world: int,
    address: tuple[str, int],
    listener: socket.socket | None = None,
    timeout: timedelta = default_pg_timeout,
) -> DistributedGroup:
    """Become one of several workers that train together.

    Args:
        rank: Which one.
        world: How many.
        address: Host and port at which the first one listens.
        listener: The first one's socket, from :func:`listen_on_node`.
        timeout: How long a worker waits for the others once all have met.

    Raises:
        RunError: If this machine does not have its node's address in the cluster.
        RuntimeError: If the others do not come.
    """
    interface = _interface(ray.util.get_node_ip_address())
    # gloo would listen where the machine's name leads to, NCCL at the first network card
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


_HOW_TO_NAME = "start its Ray with --node-ip-address and an address of the machine's own"


def _interface(address: str) -> str:
    for name, found in psutil.net_if_addrs().items():
        if address in {one.address for one in found}:
            return str(name)
    raise RunError(f"no network interface of {socket.gethostname()} has the node's address {address}; {_HOW_TO_NAME}")
