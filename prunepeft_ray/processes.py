"""Processes told apart by a mark in their environment, which their children inherit: found and ended, and no others."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Process:
    """A process, told apart from all others that ever were.

    Args:
        host: Name of its machine.
        boot: Id of the machine's boot.
        namespace: Its namespace of process ids; containers on one machine have their own.
        pid: Its id.
        birth: When it started, in ticks since the boot; empty where the system does not tell.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    birth: str

    @classmethod
    def this(cls) -> Process:
        """The process that asks."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Process:
        """A process of this machine, as it is now.

        Args:
            pid: Its id; its birth stays empty if there is none.
        """
        boot = namespace = ""
        # not on every system
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            namespace = str(Path("/proc/self/ns/pid").readlink())
        return cls(socket.gethostname(), boot, namespace, pid, _birth(pid) or "")

    def is_dead(self, seen_from: Process) -> bool | None:
        """Whether it has ended; None if that cannot be seen from where another process runs."""
        if not self.birth or (self.host, self.namespace) != (seen_from.host, seen_from.namespace):
            return None
        # after a new start of the machine nothing of before lives
        if self.boot != seen_from.boot:
            return True
        birth = _birth(self.pid)
        return None if birth is None else birth != self.birth


def _birth(pid: int) -> str | None:
    """When a living process started, in ticks since the boot; empty if there is none, None if it is hidden."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if _is_there(pid) else ""
    # the name, in parentheses, may hold spaces
    values = stat.rpartition(")")[2].split()
    # a zombie has died and waits for its parent to notice
    return "" if values[0] in "ZX" else values[19]


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # somebody else's
        return True
    return True
