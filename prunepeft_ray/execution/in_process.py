"""What searches and studies that run in this process, without Ray, have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from prunepeft_ray.ending import ENDING, SAFE
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.interruptions import STOPPING
from prunepeft_ray.execution.watchdog import Watchdog
from prunepeft_ray.signals import StopRequest


@contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """Compute as a worker does, and leave this process's threads and random numbers as they were.

    On a CPU, sums are taken in one thread, so that they depend neither on the number of workers nor on that of cores.
    """
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(before)


def stop_signal(request: StopRequest, emit: Emit) -> Callable[[], bool]:
    """Return a function that says whether a signal has requested a stop; the user is told the first time."""
    told = False

    def stop_wanted() -> bool:
        nonlocal told
        if request.signal is not None and not told:
            told = True
            emit(Event("message", STOPPING))
        return request.signal is not None

    return stop_wanted


def hang_watchdog(seconds: float, emit: Emit) -> Watchdog:
    """Return a watchdog that ends a command whose job makes no step; a program that uses the library is only told."""
    what = f"no step was made for {seconds:g} s"

    def end() -> None:
        emit(Event("lost", what))
        if ENDING.is_installed:
            ENDING.exit_now(f"{what}; {SAFE}", 1)

    return Watchdog(seconds, end)
