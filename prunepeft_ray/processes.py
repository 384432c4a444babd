"""Finding and stopping exactly those processes that carry a mark in their environment, which children inherit."""

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
    """All running processes that carry a mark or a submark of it, and all their descendants.

    Args:
        mark: ``a`` finds the processes marked ``a`` and ``a.1``, but not those marked ``ab``.
    """
    everyone = _everyone()
    found = _with_descendants([pid for pid in everyone if _bears(pid, mark)], everyone)
    # this process carries the mark itself if it was started from within the cluster
    found.discard(os.getpid())
    return {process for process in map(Process.of, found) if process.birth}


def kill_descendants() -> None:
    """Kill all descendants of this process."""
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
    """Whether a process of this machine is still running; a zombie is not."""
    return process.is_dead(seen_from=Process.this()) is False


def send(process: Process, number: int) -> None:
    """Send a signal to a process, and never to another one that has since been given its id."""
    with suppress(OSError):
        handle = os.pidfd_open(process.pid)
        try:
            if is_alive(process):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def end_family(mark: str, heads: Iterable[Process], grace: float) -> int:
    """Stop all processes that carry a mark: the heads are terminated first, whatever outlives them is killed.

    Args:
        mark: See :func:`family`.
        heads: Processes that stop their own children on SIGTERM.
        grace: How long the heads may take, in seconds.

    Returns:
        The number of processes stopped.
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
    """The processes still alive; ``everyone`` grows by those that have started since."""
    # orphans without the mark would not be found later
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
        # another user's, or gone
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
    """A process, identified uniquely across machines, reboots and reused ids.

    Args:
        host: Host name of its machine.
        boot: Id of the machine's boot.
        namespace: Its PID namespace; containers on one machine have their own.
        pid: Its process id.
        birth: When it started, in ticks since boot; empty if the system does not say.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    birth: str

    @classmethod
    def this(cls) -> Process:
        """The current process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process of this machine that has an id now.

        Args:
            pid: The process id; if there is no such process, ``birth`` stays empty.
        """
        boot = namespace = ""
        # not on every system
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            namespace = str(Path("/proc/self/ns/pid").readlink())
        return cls(socket.gethostname(), boot, namespace, pid, _birth(pid) or "")

    def is_dead(self, seen_from: Process) -> bool | None:
        """Whether it has exited; None if that cannot be seen from where another process runs."""
        if not self.birth or (self.host, self.namespace) != (seen_from.host, seen_from.namespace):
            return None
        # no process survives a reboot
        if self.boot != seen_from.boot:
            return True
        birth = _birth(self.pid)
        return None if birth is None else birth != self.birth


def _birth(pid: int) -> str | None:
    """When a running process started, in ticks since boot; empty if there is none, None if it is hidden."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if _is_there(pid) else ""
    # the name, in parentheses, may hold spaces
    values = stat.rpartition(")")[2].split()
    # a zombie has exited and only waits for its parent to notice
    return "" if values[0] in "ZX" else values[19]


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # another user's
        return True
    return True
