"""Starting and resuming a search: check everything first, then run it in one Ray Train worker group."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from prunepeft_ray.backbones import load_outline
from prunepeft_ray.config import RecipeConfig, SearchSpec
from prunepeft_ray.errors import InputError
from prunepeft_ray.execution.events import Emit, Event
from prunepeft_ray.execution.local_ray import check_room, ray_cluster
from prunepeft_ray.execution.merging import merging
from prunepeft_ray.execution.search import plan_search
from prunepeft_ray.execution.signals import StopRequest, catching_signals
from prunepeft_ray.execution.terms import EQUAL_TERMS, Terms
from prunepeft_ray.plugins import load_plugins
from prunepeft_ray.results import Attempt, ResultsStore, RunFolder, attempt
from prunepeft_ray.tasks import TaskData, load_task
from prunepeft_ray.training import default_micro_batches
from prunepeft_ray.training.optimiser import autocast

R = TypeVar("R", bound=RecipeConfig)


def start_search(
    spec: SearchSpec,
    output: Path,
    emit: Emit,
    workers: int | None = None,
    address: str | None = None,
    terms: Terms = EQUAL_TERMS,  # noqa: ARG001
) -> RunFolder:
    """Run a search from its beginning, in a new folder.

    Everything that can be checked is checked before the folder is made and Ray is started.

    Args:
        spec: The search.
        output: The run's folder; must not hold anything yet.
        emit: Told the news.
        workers: Workers; default: all GPUs, or two CPU workers.
        address: Ray cluster to run on; default: one on this machine.
        terms: On what terms it shares that cluster.

    Raises:
        InputError: If anything in the spec is wrong, or the folder is not free.
        RunError: If the search failed.
    """
    load_plugins(spec.plugins)
    emit(Event("message", f"reading task {spec.task.name} and model {spec.model}"))
    data = load_task(spec.task)
    plan_search(spec, load_outline(spec.model), data).method(spec)
    autocast(spec.training.precision, _device())
    RunFolder.check_free(output)
    with _workers(workers, address, emit) as (count, request):
        folder = RunFolder.create(output, resolve(spec))
        with attempting(folder, emit):
            _run(folder, data, emit, count, request)
    return folder


def resume_search(
    output: Path,
    emit: Emit,
    workers: int | None = None,
    address: str | None = None,
    terms: Terms = EQUAL_TERMS,  # noqa: ARG001
) -> RunFolder:
    """Go on with a search where it stopped; a finished one is left as it is.

    Args:
        output: The run's folder.
        emit: Told the news.
        workers: Workers; may differ from before.
        address: Ray cluster to run on; default: one on this machine.
        terms: On what terms it shares that cluster.

    Raises:
        InputError: If the folder holds no run, or its task or model has changed since.
        RunError: If the search failed.
    """
    folder = RunFolder.open(output)
    if folder.finished:
        emit(Event("message", f"{output} is finished; there is nothing to resume"))
        return folder
    load_plugins(folder.spec.plugins)
    data = load_task(folder.spec.task)
    finished = _check_unchanged(folder, data)
    emit(Event("message", f"going on with {output}: {finished} job{'' if finished == 1 else 's'} finished so far"))
    with attempting(folder, emit), _workers(workers, address, emit) as (count, request):
        _run(folder, data, emit, count, request)
    return folder


def resolve(spec: R) -> R:
    """Fill in the settings that depend on the machine, so that a resume elsewhere computes the same."""
    if spec.training.micro_batches is not None:
        return spec
    found = default_micro_batches(_device())
    training = spec.training.model_copy(update={"micro_batches": found})
    return spec.model_copy(update={"training": training})


@contextmanager
def attempting(folder: RunFolder, emit: Emit) -> Iterator[Attempt]:
    """Be the one process that works on a run; when another one takes it over, stop like at Ctrl-C."""
    is_main = threading.current_thread() is threading.main_thread()
    interrupt = _interrupt if is_main else lambda: None
    with (
        attempt(folder, lambda line: emit(Event("message", line)), interrupt) as ours,
        merging(ResultsStore(folder.results)),
    ):
        yield ours


def _interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _check_unchanged(folder: RunFolder, data: TaskData) -> int:
    """Make sure that the run's task and model are what they were; returns the number of finished jobs."""
    jobs = ResultsStore(folder.results).read("jobs")
    here = {"task": data.fingerprint, "model": load_outline(folder.spec.model).fingerprint}
    for what, fingerprint in here.items():
        if odd := sorted(set(jobs[f"{what}_fingerprint"]) - {fingerprint}):
            raise InputError(
                f"{folder.path}: the {what} has changed since this run began (it was {odd[0]}, now {fingerprint}): "
                "bring the old one back, or start a new search"
            )
    return len(jobs)


@contextmanager
def _workers(wanted: int | None, address: str | None, emit: Emit) -> Iterator[tuple[int, StopRequest]]:
    """Join or start a cluster with room for the workers; gives their number, and notes signals meanwhile."""
    use_gpu = _device().type == "cuda"
    count = wanted or (torch.cuda.device_count() if use_gpu else min(2, os.cpu_count() or 1))
    # Ray sets handlers of its own when it starts
    with ray_cluster(address, count), catching_signals() as request:
        check_room(count, use_gpu)
        emit(Event("message", f"starting {count} {'GPU' if use_gpu else 'CPU'} worker{'s' if count > 1 else ''}"))
        yield count, request


def _run(folder: RunFolder, data: TaskData, emit: Emit, workers: int, request: StopRequest) -> None:
    # it imports Ray, which reads its settings then
    from prunepeft_ray.execution.train_group import run_in_group

    run_in_group(folder, data, emit, workers, _device().type == "cuda", request)
