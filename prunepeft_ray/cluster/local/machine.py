"""Ports, cores and memory of this machine, for a local cluster."""

from __future__ import annotations

import os
import random
import shutil
import socket
from contextlib import suppress

from prunepeft_ray.cluster.private_ray.node import LOOPBACK
from prunepeft_ray.errors import RunError

FREE_PORTS = range(20000, 32000)
"""Range to pick free ports from: above the ports of Ray's workers, below the system's ephemeral ports."""


MIN_STORE_BYTES = 80 * 2**20


def _free_port(wanted: int) -> int:
    for port in (wanted, *random.sample(FREE_PORTS, 100)):
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return port
    raise RunError("no free port was found on this machine")


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _store_bytes(nodes: int) -> int:
    """Size of each node's object store; together they take what Ray would give a single node on this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(MIN_STORE_BYTES, int(min(0.3 * memory, 0.9 * shutil.disk_usage("/dev/shm").free) / nodes))
