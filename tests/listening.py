"""Where processes listen."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

import psutil


def listening(pids: Iterable[int]) -> dict[int, list[str]]:
    """The addresses of all TCP sockets at which processes listen, by pid; some may have ended meanwhile."""
    found = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            sockets = psutil.Process(pid).net_connections("tcp")
            found[pid] = [one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN]
    return found


def beyond_loopback(found: dict[int, list[str]]) -> dict[int, list[str]]:
    """Those of :func:`listening` that others than this machine may reach."""
    beyond = {pid: [address for address in addresses if not _is_loopback(address)] for pid, addresses in found.items()}
    return {pid: addresses for pid, addresses in beyond.items() if addresses}


def _is_loopback(address: str) -> bool:
    parsed = ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback
