"""Finding and stopping exactly those processes that carry a mark in their environment, which children inherit."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from prunepeft_ray.waiting import poll

MARK = "PRUNEPEFT_CLUSTER"
"""The environment variable that holds it."""
LOOK_SECONDS = 0.1
TICKS = 100
"""Ticks of a second in which the start of a process is written down: those of the Linux kernel."""


def family(mark: str) -> set[Process]:
    """All running processes that carry a mark or a submark of it, and all their descendants.

    Args:
        mark: ``a`` finds the processes marked ``a`` and ``a.1``, but not those marked ``ab``.
    """
    found = set[int]()
    for pid in psutil.pids():
        # another user's, or gone
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if pid not in found and _bears(process.environ(), mark):
                found |= {pid, *(child.pid for child in process.children(recursive=True))}
    # this process carries the mark itself if it was started from within the cluster
    found.discard(os.getpid())
    return {process for process in map(Process.of, found) if process.birth}


def _bears(environment: Mapping[str, str], mark: str) -> bool:
    return f"{environment.get(MARK)}.".startswith(f"{mark}.")


def kill_descendants() -> None:
    """Kill all descendants of this process."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()


def is_alive(process: Process) -> bool:
    """Whether a process of this machine is still running; a zombie is not."""
    return process.is_dead(seen_from=Process.this()) is False


def send(process: Process, number: int) -> None:
    """Send a signal to a process, and never to another one that has since been given its id."""
    with suppress(psutil.Error):
        # psutil sends nothing either once the id is another process's
        found = psutil.Process(process.pid)
        if is_alive(process):
            found.send_signal(number)


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
    poll(lambda: not asked & _left(everyone, mark), grace, LOOK_SECONDS)
    while left := _left(everyone, mark):
        for process in left:
            send(process, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
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


@dataclass(frozen=True)
class Process:
    """A process, identified uniquely across machines, reboots and reused ids.

    Args:
        host: Host name of its machine.
        boot: Id of the machine's boot.
        namespace: Its PID namespace; containers on one machine have their own.
        pid: Its process id.
        birth: When it started, in ticks since boot (:data:`TICKS`); empty if the system does not say.
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
        # another form, written by another version, is not compared
        is_known = re.fullmatch(r"[0-9]+", self.birth)
        if not is_known or (self.host, self.namespace) != (seen_from.host, seen_from.namespace):
            return None
        # no process survives a reboot
        if self.boot != seen_from.boot:
            return True
        birth = _birth(self.pid)
        return None if birth is None else birth != self.birth


def _birth(pid: int) -> str | None:
    """When a running process started, in ticks since boot; empty if there is none, None if it is hidden.

    Since boot, rather than since the epoch as psutil says: that changes when the clock is set.
    """
    try:
        process = psutil.Process(pid)
        # a zombie has died and waits for its parent to notice
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return ""
        return str(round((process.create_time() - psutil.boot_time()) * TICKS))
    except psutil.ZombieProcess:
        return ""
    except psutil.NoSuchProcess:
        return None if _is_there(pid) else ""
    except (psutil.AccessDenied, RuntimeError):
        return None


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # another user's
        return True
    return True
