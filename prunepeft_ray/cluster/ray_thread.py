"""Starting and stopping Ray in this process: signals are handled meanwhile, and the death of Ray is noticed."""

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
"""How long Ray may take to start or to stop after a signal was received."""
HEAD_SECONDS = 45.0
"""How long a cluster's head node may be unreachable; after 60 s Ray ends the process, without any message of ours."""


class RayThread(threading.Thread):
    """Starts Ray, then watches it until it is to be stopped.

    When Ray starts in the main thread, it replaces Python's signal handlers; and the kernel kills Ray's processes when
    the thread that started them exits. Hence a separate thread that stays.

    Args:
        start: Starts or joins a cluster.
    """

    def __init__(self, start: Callable[[], Any]) -> None:
        super().__init__(daemon=True, name="ray")
        self._start = start
        self.started, self.ending, self.over = threading.Event(), threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Start Ray, then watch it."""
        try:
            self._start()
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self.error = error
            return
        finally:
            self.started.set()
        is_lost = _watch()
        while not self.ending.wait(LOOK_SECONDS):
            if ENDING.is_installed and (what := is_lost()):
                self._leave(what)
        self.over.wait()

    def _leave(self, what: str) -> None:
        """Exit before Ray makes this process exit: once its core processes are gone, it cannot even be shut down."""
        # whoever killed it may have sent us a signal too
        if not self.ending.wait(LOOK_SECONDS):
            if ENDING.asked is not None:
                ENDING.exit_for_signal(ENDING.asked)
            ENDING.exit_now(f"{what}; finished jobs and checkpoints are safe; resume with 'prunepeft resume DIR'", 1)


_thread: RayThread | None = None


def start_ray(start: Callable[[], Any], before_exit: Callable[[], None]) -> None:
    """Start Ray or join a cluster, in a separate thread; signals are recorded meanwhile.

    Args:
        start: Starts or joins a cluster.
        before_exit: Cleanup on an immediate exit, so that none of Ray's processes stays behind.

    Raises:
        KeyboardInterrupt: On SIGINT; the caller must stop what has been started.
        Terminated: On SIGTERM; likewise.
    """
    global _thread
    ENDING.before_exit = before_exit
    with catching_signals() as request:
        _thread = RayThread(start)
        _thread.start()
        _wait(_thread.started, request)
        if request.signal is not None:
            request.interrupt()
        if _thread.error is not None:
            raise _thread.error


def end_ray() -> None:
    """Stop the cluster that was started here, or leave the one that was joined; signals are recorded meanwhile."""
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
    """Wait for Ray, but only for a limited time once a signal was received."""
    until = 0.0
    is_main = threading.current_thread() is threading.main_thread()
    while not event.wait(LISTEN_SECONDS):
        if is_main:
            request.listen()
        if request.signal is not None:
            until = until or time.monotonic() + PATIENCE_SECONDS
            if time.monotonic() > until:
                if ENDING.is_installed:
                    ENDING.exit_for_signal(request.signal)
                request.interrupt()
    if is_main:
        request.listen()


def _watch() -> Callable[[], str]:
    """Return a check for the loss of Ray's processes on this machine, or of the head node of a remote cluster."""
    with suppress(Exception):
        if core := vital_processes().items():
            return lambda: next((f"Ray's {kind} has exited" for kind, own in core if own.poll() is not None), "")
        return _Head(*head_address()).lost
    return lambda: ""


class _Head:
    """The head node of a cluster."""

    def __init__(self, host: str, port: int) -> None:
        self._place = host, port
        self._seen = time.monotonic()

    def lost(self) -> str:
        """Describe its loss if it has not answered for too long; empty otherwise."""
        with suppress(OSError):
            socket.create_connection(self._place, timeout=LOOK_SECONDS).close()
            self._seen = time.monotonic()
        away = time.monotonic() - self._seen
        return f"the head node of the cluster has not answered for {away:.0f} s" if away > HEAD_SECONDS else ""
