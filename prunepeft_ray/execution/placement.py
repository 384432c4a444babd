"""Where a run is computed: in this process, or by workers under Ray. Does not import Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from prunepeft_ray.cluster.session import is_joined
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.in_process import computing
from prunepeft_ray.text import counted, duration_text

CPU_WORKERS = 2
"""Default number of workers of a search on CPUs, and the least number of parts of its batches."""
RAY_SECONDS = 15.0
"""How much later than this process Ray's workers begin to train."""
EFFICIENCY = 0.85
"""Speed-up of several workers, as a share of their number."""
TRAINING_SHARE = 0.6
"""Speed of training as a share of that of a matrix product."""
GPU_FLOPS = 2e13


@dataclass(frozen=True)
class Placement:
    """Where a run is computed.

    Args:
        in_process: Whether it is computed in this process, without Ray.
        reason: The choice and its reason, for the user; empty if there was no choice.
    """

    in_process: bool
    reason: str = ""


def choose_placement(
    workers: int | None, device: torch.device, most: int | None, flops: Callable[[], float]
) -> Placement:
    """Choose between this process and workers under Ray, on this machine.

    Args:
        workers: The number of workers that the user wants; None to choose by the amount of work.
        device: The device to train on.
        most: Number of workers on CPUs that the run would have; None: one per CPU.
        flops: Estimates the floating-point operations of the run's training; called only if the choice needs it.
    """
    if workers is not None:
        return Placement(workers == 1)
    there = torch.cuda.device_count() if device.type == "cuda" else min(most or available_cpus(), available_cpus())
    kind = "GPU" if device.type == "cuda" else "CPU"
    if there < 2:
        return Placement(True, f"running in this process: there is one {kind}")
    seconds = flops() / _flops_per_second(device)
    work = f"about {duration_text(max(1.0, seconds))} of training"
    if seconds * (1 - 1 / (EFFICIENCY * there)) <= RAY_SECONDS:
        return Placement(True, f"{work}: running in this process, which takes less time than starting Ray")
    return Placement(False, f"{work}: starting Ray with {counted(there, f'{kind} worker')}")


def runs_in_process(
    workers: int | None,
    address: str | None,
    device: torch.device,
    most: int | None,
    flops: Callable[[], float],
    emit: Emit,
) -> bool:
    """Choose as :func:`choose_placement` does, and tell the user; on a cluster, runs always have workers there.

    Args:
        workers: The number of workers that the user wants; None to choose by the amount of work.
        address: Ray cluster to run on; None: the one already joined, or this machine.
        device: The device to train on.
        most: Number of workers on CPUs that the run would have; None: one per CPU.
        flops: Estimates the floating-point operations of the run's training.
        emit: Callback that receives events.
    """
    if address is not None or is_joined():
        return False
    placement = choose_placement(workers, device, most, flops)
    if placement.reason:
        emit(Event("message", placement.reason))
    return placement.in_process


def available_cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _flops_per_second(device: torch.device) -> float:
    """Speed of training on a device: roughly that of a GPU; measured with a matrix product on a CPU."""
    if device.type == "cuda":
        return GPU_FLOPS
    size, seconds = 512, []
    with computing(device):
        matrix = torch.ones(size, size)
        for _ in range(5):
            started = time.perf_counter()
            torch.mm(matrix, matrix)
            seconds.append(time.perf_counter() - started)
    return TRAINING_SHARE * 2 * size**3 / max(min(seconds), 1e-9)
