"""Starting and ending Ray in this process so that signals are heard meanwhile, and Ray's own end is noticed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prunepeft_ray.cluster.private_ray.node import head_address, vital_processes
from prunepeft_ray.ending import ENDING
from prunepeft_ray.signals import StopRequest, catching_signals

LISTEN_SECONDS = 0.005
LOOK_SECONDS = 0.2
PATIENCE_SECONDS = 15.0
"""How long Ray may take to start or to end once a signal has come."""
HEAD_SECONDS = 45.0
"""How long a cluster's head node may be away; after 60 Ray ends the process, without a word of ours."""


class RayThread(threading.Thread):
    """Starts Ray, then watches it until it is to end.

    Ray replaces the handlers of signals when it starts, those of Python in the main thread alone, and the kernel kills
    its processes when the thread that has started them ends; hence a thread that stays.

    Args:
        start: Starts or joins a cluster.
    """

    def __init__(self, start: Callable[[], Any]) -> None:
        super().__init__(daemon=True, name="ray")
        self._start = start
        self.started, self.ending, self.over = threading.Event(), threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Start Ray, and stay."""
        try:
            self._start()
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self.error = error
            return
        finally:
            self.started.set()
        is_lost = _watch()
        while not self.ending.wait(LOOK_SECONDS):
            if ENDING.hears and (what := is_lost()):
                self._leave(what)
        self.over.wait()

    def _leave(self, what: str) -> None:
        """End the process before Ray does: with its heart gone it answers no more, and cannot even be shut down."""
        # who has killed it may have sent us a signal too
        if not self.ending.wait(LOOK_SECONDS):
            if ENDING.asked is not None:
                ENDING.leave_as_asked(ENDING.asked)
            ENDING.leave(f"{what}; finished jobs and checkpoints are safe: 'prunepeft resume DIR' goes on", 1)


_thread: RayThread | None = None


def start_ray(start: Callable[[], Any], before_leaving: Callable[[], None]) -> None:
    """Start Ray, or join a cluster, in a thread of its own; signals are noted meanwhile.

    Args:
        start: Does it.
        before_leaving: What a process does that ends on the spot: nothing of Ray is to stay behind.

    Raises:
        KeyboardInterrupt: On SIGINT; what has been started is for the caller to end.
        Terminated: On SIGTERM, likewise.
    """
    global _thread
    ENDING.before_leaving = before_leaving
    with catching_signals() as request:
        _thread = RayThread(start)
        _thread.start()
        _wait(_thread.started, request)
        if request.signal is not None:
            request.end()
        if _thread.error is not None:
            raise _thread.error


def end_ray() -> None:
    """End the cluster that was started here, or leave the one that was joined; signals are noted meanwhile."""
    import ray

    with catching_signals() as request:
        if _thread is not None:
            _thread.ending.set()
        ended = threading.Event()

        def end() -> None:
            try:
                ray.shutdown()
            finally:
                ended.set()

        threading.Thread(target=end, daemon=True, name="ray-end").start()
        _wait(ended, request)
    if _thread is not None:
        _thread.over.set()


def _wait(event: threading.Event, request: StopRequest) -> None:
    """Wait for Ray, but not for ever once a signal has come."""
    until = 0.0
    is_main = threading.current_thread() is threading.main_thread()
    while not event.wait(LISTEN_SECONDS):
        if is_main:
            request.listen()
        if request.signal is not None:
            until = until or time.monotonic() + PATIENCE_SECONDS
            if time.monotonic() > until:
                if ENDING.hears:
                    ENDING.leave_as_asked(request.signal)
                request.end()
    if is_main:
        request.listen()


def _watch() -> Callable[[], str]:
    """Return what tells the loss of Ray's processes on this machine, or of the head node of a cluster elsewhere."""
    with suppress(Exception):
        if hearts := vital_processes().items():
            return lambda: next((f"Ray's {kind} has ended" for kind, own in hearts if own.poll() is not None), "")
        return _Head(*head_address()).lost
    return lambda: ""


class _Head:
    """The head node of a cluster."""

    def __init__(self, host: str, port: int) -> None:
        self._place = host, port
        self._seen = time.monotonic()

    def lost(self) -> str:
        """Say that it is lost, if it has not answered for long."""
        with suppress(OSError):
            socket.create_connection(self._place, timeout=LOOK_SECONDS).close()
            self._seen = time.monotonic()
        away = time.monotonic() - self._seen
        return f"the head node of the cluster has not answered for {away:.0f} s" if away > HEAD_SECONDS else ""
