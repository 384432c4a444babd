"""Starting and resuming a search: check everything first, then run it here or in one Ray Train worker group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from prunepeft_ray.backbones import load_outline
from prunepeft_ray.cluster.capacity import check_limits, check_room, room_for_workers, worker_needs
from prunepeft_ray.cluster.resources import Bundle
from prunepeft_ray.cluster.session import is_joined, ray_cluster
from prunepeft_ray.cluster.sharing.claim import ShareReporter, wait_for_share
from prunepeft_ray.cluster.sharing.terms import EQUAL_TERMS, Terms
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.events import Emit, Event, message_emitter
from prunepeft_ray.execution.placement import CPU_WORKERS, available_cpus, runs_in_process
from prunepeft_ray.execution.plan import plan_search, search_flops
from prunepeft_ray.execution.search.in_process import run_in_process
from prunepeft_ray.execution.session import (
    attempting,
    check_unchanged,
    describe_missing,
    joining,
    named,
    pool_of_run,
    resolve,
    share_of_cluster,
)
from prunepeft_ray.plugins import load_named_plugins, load_run_plugins
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.signals import StopRequest, catching_signals
from prunepeft_ray.tasks import TaskData, load_task
from prunepeft_ray.training.optimiser import autocast
from prunepeft_ray.waiting import every

LOOK_SECONDS = 1.0

Run = Callable[[RunFolder, TaskData, Emit, str | None], None]
"""Runs a search to its end, with a pool of finished jobs or none."""


def start_search(
    spec: SearchSpec,
    output: Path,
    emit: Emit,
    workers: int | None = None,
    address: str | None = None,
    terms: Terms = EQUAL_TERMS,
    pool: str | None = None,
) -> RunFolder:
    """Run a new search, in a new folder.

    Everything that can be checked is checked before the folder is created and Ray is started.

    Args:
        spec: The search.
        output: The run's folder; must be empty or not exist yet.
        emit: Callback that receives events.
        workers: Number of workers; a single one on this machine is this process itself. Default: chosen by the amount
            of work; on a cluster, one per GPU, or two CPU workers.
        address: Ray cluster to run on; default: one on this machine.
        terms: How the search shares that cluster.
        pool: Folder or URL of the pool of finished jobs, or ``"off"``; default: see :func:`find_pool`.

    Raises:
        InputError: If anything in the spec is wrong, or the folder is not free.
        RunError: If the search failed.
    """
    load_named_plugins(spec.plugins)
    with joining(address, terms) as device:
        emit(Event("message", f"reading task {spec.task.name} and model {spec.model}"))
        data = load_task(spec.task, message_emitter(emit))
        outline = load_outline(spec.model)
        plan_search(spec, outline, data).method(spec)
        _check_precision(spec, device)
        RunFolder.check_free(output)
        pool = pool_of_run(pool, spec.plugins, address, emit)
        with _prepared(partial(search_flops, spec, outline, data), emit, workers, address, device, terms) as run:
            folder = RunFolder.create(output, resolve(spec, device, max(CPU_WORKERS, workers or 1)))
            with attempting(folder, emit):
                run(folder, data, emit, pool)
    return folder


def resume_search(
    output: Path,
    emit: Emit,
    workers: int | None = None,
    address: str | None = None,
    terms: Terms = EQUAL_TERMS,
    trust_plugins: bool = False,
    pool: str | None = None,
) -> RunFolder:
    """Resume an interrupted search; a finished one is left as it is.

    Args:
        output: The run's folder.
        emit: Callback that receives events.
        workers: Number of workers, as for :func:`start_search`; may differ from before.
        address: Ray cluster to run on; default: one on this machine.
        terms: How the search shares that cluster.
        trust_plugins: Whether to import plugins named in the folder that this user has not used on this machine.
        pool: As in :func:`start_search`; may differ from before.

    Raises:
        InputError: If the folder contains no run, its plugins are not trusted, or its task or model has changed.
        RunError: If the search failed.
    """
    folder = RunFolder.open(output)
    if folder.finished:
        missing = lost_results(folder)
        if not missing:
            emit(Event("message", f"{output} is finished; there is nothing to resume"))
            return folder
        emit(Event("message", describe_missing(folder, missing)))
    load_run_plugins(folder.spec.plugins, output, trust_plugins)
    data = load_task(folder.spec.task, message_emitter(emit))
    task, model = folder.spec.task.name, folder.spec.model
    outline = load_outline(model)
    here = {"task": {task: data.fingerprint}, "model": {model: outline.fingerprint}}
    finished = check_unchanged(folder, here)
    pool = pool_of_run(pool, folder.spec.plugins, address, emit)
    emit(Event("message", f"resuming {output}: {finished} job{'' if finished == 1 else 's'} finished so far"))
    with (
        attempting(folder, emit),
        joining(address, terms) as device,
        _prepared(partial(search_flops, folder.spec, outline, data), emit, workers, address, device, terms) as run,
    ):
        folder.withdraw_answer()
        run(folder, data, emit, pool)
    return folder


def lost_results(folder: RunFolder) -> list[str]:
    """Return the missing files of the jobs that a finished search depends on, as ``table/name``."""
    # earlier versions did not record them
    jobs = (folder.read_json("architecture.json") or {}).get("jobs", ())
    return ResultsStore(folder.results).missing(jobs)


@dataclass(frozen=True)
class _WorkerPlan:
    """The workers that a search on a cluster should have.

    Args:
        wanted: How many; None: one per GPU, or two on CPUs.
        use_gpu: Whether they have GPUs.
        terms: How the search shares its cluster.
        request: Whether a signal has requested a stop.
    """

    wanted: int | None
    use_gpu: bool
    terms: Terms
    request: StopRequest

    @property
    def count(self) -> int:
        """How many workers the search could use now."""
        if self.wanted is not None:
            return self.wanted
        return max(1, room_for_workers(True), int(self.terms.gpus or 0)) if self.use_gpu else CPU_WORKERS


@contextmanager
def _prepared(
    flops: Callable[[], float],
    emit: Emit,
    workers: int | None,
    address: str | None,
    device: torch.device,
    terms: Terms,
) -> Iterator[Run]:
    """Prepare a run in this process or on a cluster; signals are recorded meanwhile."""
    if runs_in_process(workers, address, device, CPU_WORKERS, flops, emit):
        with catching_signals() as request:
            yield partial(run_in_process, device=device, request=request)
        return
    with _cluster_with_workers(workers, address, device, terms) as worker_plan:
        yield partial(_run_in_workers, worker_plan=worker_plan)


@contextmanager
def _cluster_with_workers(
    wanted: int | None, address: str | None, device: torch.device, terms: Terms
) -> Iterator[_WorkerPlan]:
    """Join or start a cluster with room for the workers; signals are recorded meanwhile."""
    use_gpu = device.type == "cuda"
    # a cluster of our own is started with this many CPUs; Ray detects the GPUs
    least = wanted or (1 if use_gpu or is_joined() else min(CPU_WORKERS, available_cpus()))
    with catching_signals() as request, ray_cluster(address, least):
        check_room(worker_needs(least, use_gpu))
        check_limits(_unit(use_gpu), terms)
        yield _WorkerPlan(wanted if is_joined() or use_gpu else least, use_gpu, terms, request)


def _check_precision(spec: SearchSpec, device: torch.device) -> None:
    # a driver without a GPU cannot know which precisions the cluster's GPUs support
    if device.type == "cpu" or torch.cuda.is_available():
        autocast(spec.training.precision, device)


def _unit(use_gpu: bool) -> Sequence[Bundle]:
    """Resources that Ray Train reserves for a worker."""
    return worker_needs(1, use_gpu).bundles


def _run_in_workers(folder: RunFolder, data: TaskData, emit: Emit, pool: str | None, worker_plan: _WorkerPlan) -> None:
    # imported here because this imports Ray, which reads its settings on import
    from prunepeft_ray.execution.ray_errors import reaching_cluster
    from prunepeft_ray.execution.search.train_group import run_in_group

    unit = _unit(worker_plan.use_gpu)
    kind = "GPU" if worker_plan.use_gpu else "CPU"
    with (
        reaching_cluster(folder),
        share_of_cluster(named(worker_plan.terms, folder), unit, worker_plan.count) as share,
    ):
        emit(Event("accepted", ""))
        wait_for_share(share, emit, worker_plan.request)
        count = share.units
        rest = f" of {worker_plan.count}: no room for more at the moment" if count < worker_plan.count else ""
        emit(Event("message", f"starting {count} {kind} worker{'s' if count > 1 else ''}{rest}"))
        reporter = ShareReporter(share, emit)

        def look() -> None:
            share.wants(worker_plan.count)
            reporter.report()

        request, looking = worker_plan.request, every(LOOK_SECONDS, look)
        run_in_group(folder, data, emit, share, worker_plan.use_gpu, request, looking, pool)
