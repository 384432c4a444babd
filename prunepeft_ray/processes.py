"""Processes told apart by a mark in their environment, which their children inherit: found and ended, and no others."""

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
    """All living processes that bear a mark or one below it, and all that descend from them.

    Args:
        mark: The mark: ``a`` finds those marked ``a`` and ``a.1``, not those marked ``ab``.
    """
    found = set[int]()
    for pid in psutil.pids():
        # somebody else's, or gone
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if pid not in found and _bears(process.environ(), mark):
                found |= {pid, *(child.pid for child in process.children(recursive=True))}
    # the mark may be this process's own, where it was started from within the cluster
    found.discard(os.getpid())
    return {process for process in map(Process.of, found) if process.birth}


def _bears(environment: Mapping[str, str], mark: str) -> bool:
    return f"{environment.get(MARK)}.".startswith(f"{mark}.")


def kill_descendants() -> None:
    """Kill all processes that this one has started, and theirs."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()


def is_alive(process: Process) -> bool:
    """Whether a process of this machine still runs; a zombie does not."""
    return process.is_dead(seen_from=Process.this()) is False


def send(process: Process, number: int) -> None:
    """Send a signal to a process, and never to another one that has been given its id since."""
    with suppress(psutil.Error):
        # psutil sends nothing either once the id is another process's
        found = psutil.Process(process.pid)
        if is_alive(process):
            found.send_signal(number)


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
    poll(lambda: not asked & _left(everyone, mark), grace, LOOK_SECONDS)
    while left := _left(everyone, mark):
        for process in left:
            send(process, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
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


@dataclass(frozen=True)
class Process:
    """A process, told apart from all others that ever were.

    Args:
        host: Name of its machine.
        boot: Id of the machine's boot.
        namespace: Its namespace of process ids; containers on one machine have their own.
        pid: Its id.
        birth: When it started, in ticks since the boot (:data:`TICKS`); empty where the system does not tell.
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
        # what another version has written in another form is not compared
        is_known = re.fullmatch(r"[0-9]+", self.birth)
        if not is_known or (self.host, self.namespace) != (seen_from.host, seen_from.namespace):
            return None
        # after a new start of the machine nothing of before lives
        if self.boot != seen_from.boot:
            return True
        birth = _birth(self.pid)
        return None if birth is None else birth != self.birth


def _birth(pid: int) -> str | None:
    """When a living process started, in ticks since the boot; empty if there is none, None if it is hidden.

    Since the boot, and not since the epoch as psutil tells it: that changes when the clock is set.
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
        # somebody else's
        return True
    return True
