"""Processes told apart by a mark in their environment, which their children inherit: found and ended, and no others."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from prunepeft_ray.results.attempts import Process

MARK = "PRUNEPEFT_CLUSTER"
"""The environment variable that holds it."""
LOOK_SECONDS = 0.1


def family(mark: str) -> set[Process]:
    """All living processes that bear a mark or one below it, and all that descend from them.

    Args:
        mark: The mark: ``a`` finds those marked ``a`` and ``a.1``, not those marked ``ab``.
    """
    everyone = _everyone()
    found = _with_descendants([pid for pid in everyone if _bears(pid, mark)], everyone)
    # the mark may be this process's own, where it was started from within the cluster
    found.discard(os.getpid())
    return {process for process in map(Process.of, found) if process.birth}


def kill_descendants() -> None:
    """Kill all processes that this one has started, and theirs."""
    for pid in _with_descendants([os.getpid()], _everyone()) - {os.getpid()}:
        send(Process.of(pid), signal.SIGKILL)


def _everyone() -> set[int]:
    return {int(folder.name) for folder in Path("/proc").glob("[0-9]*")}


def _with_descendants(pids: list[int], everyone: set[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid in everyone:
        children.setdefault(_parent(pid), []).append(pid)
    found, new = set[int](), pids
    while new:
        found.update(new)
        new = [child for pid in new for child in children.get(pid, ()) if child not in found]
    return found


def is_alive(process: Process) -> bool:
    """Whether a process of this machine still runs; a zombie does not."""
    return process.is_dead(seen_from=Process.this()) is False


def send(process: Process, number: int) -> None:
    """Send a signal to a process, and never to another one that has been given its id since."""
    with suppress(OSError):
        handle = os.pidfd_open(process.pid)
        try:
            if is_alive(process):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def end_family(mark: str, heads: Iterable[Process], grace: float) -> int:
    """End all processes of a mark: those at the head are asked first, what is left when they are gone is killed.

    Args:
        mark: The mark.
        heads: Processes that end their own children when asked.
        grace: How long they may take, in seconds.

    Returns:
        How many there were.
    """
    everyone = family(mark)
    asked = everyone.intersection(heads)
    for head in asked:
        send(head, signal.SIGTERM)
    until, left = time.monotonic() + grace, everyone
    while asked & left and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        left = _left(everyone, mark)
    while left:
        for process in left:
            send(process, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
        left = _left(everyone, mark)
    return len(everyone)


def _left(everyone: set[Process], mark: str) -> set[Process]:
    """Those that live, also of those that came since; ``everyone`` grows by them."""
    # orphans without the mark would not be found again
    everyone |= family(mark)
    _reap(everyone)
    return {process for process in everyone if is_alive(process)}


def _reap(processes: set[Process]) -> None:
    for process in processes:
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)


def _bears(pid: int, mark: str) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        # somebody else's, or gone
        return False
    own = f"{MARK}={mark}".encode()
    return any(variable == own or variable.startswith(own + b".") for variable in variables)


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # the name, in parentheses, may hold spaces
    return int(stat.rpartition(")")[2].split()[1])
