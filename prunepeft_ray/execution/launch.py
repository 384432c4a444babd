"""Starting and resuming a search: check everything first, then run it in one Ray Train worker group."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from prunepeft_ray.backbones import load_outline
from prunepeft_ray.config import RecipeConfig, SearchSpec
from prunepeft_ray.errors import InputError
from prunepeft_ray.execution.claiming import Share, ShareNews, Whole, claiming, wait_for_share
from prunepeft_ray.execution.events import Emit, Event, telling
from prunepeft_ray.execution.fairness import Bundle
from prunepeft_ray.execution.local_ray import is_joined, ray_cluster
from prunepeft_ray.execution.merging import merging
from prunepeft_ray.execution.room import check_limits, check_room, has_gpu, room_for_workers, worker_needs
from prunepeft_ray.execution.search import plan_search, what_is_gone
from prunepeft_ray.execution.signals import StopRequest, catching_signals
from prunepeft_ray.execution.terms import EQUAL_TERMS, Terms
from prunepeft_ray.plugins import load_named_plugins, load_run_plugins
from prunepeft_ray.results import Attempt, ResultsStore, RunFolder, attempt
from prunepeft_ray.tasks import TaskData, load_task
from prunepeft_ray.training import default_micro_batches
from prunepeft_ray.training.optimiser import autocast

R = TypeVar("R", bound=RecipeConfig)

LOOK_SECONDS = 1.0
CPU_WORKERS = 2
"""Workers of a search on CPUs, unless it is told how many."""


def start_search(
    spec: SearchSpec,
    output: Path,
    emit: Emit,
    workers: int | None = None,
    address: str | None = None,
    terms: Terms = EQUAL_TERMS,
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
    load_named_plugins(spec.plugins)
    with joining(address, terms) as device:
        emit(Event("message", f"reading task {spec.task.name} and model {spec.model}"))
        data = load_task(spec.task, telling(emit))
        plan_search(spec, load_outline(spec.model), data).method(spec)
        _check_precision(spec, device)
        RunFolder.check_free(output)
        with _crew(workers, address, device, terms) as crew:
            folder = RunFolder.create(output, resolve(spec, device))
            with attempting(folder, emit):
                _run(folder, data, emit, crew)
    return folder


def resume_search(
    output: Path,
    emit: Emit,
    workers: int | None = None,
    address: str | None = None,
    terms: Terms = EQUAL_TERMS,
    trust_plugins: bool = False,
) -> RunFolder:
    """Go on with a search where it stopped; a finished one is left as it is.

    Args:
        output: The run's folder.
        emit: Told the news.
        workers: Workers; may differ from before.
        address: Ray cluster to run on; default: one on this machine.
        terms: On what terms it shares that cluster.
        trust_plugins: Whether to import plugins of the folder's spec that this user has not used on this machine.

    Raises:
        InputError: If the folder holds no run, its plugins are not trusted, or its task or model has changed since.
        RunError: If the search failed.
    """
    folder = RunFolder.open(output)
    if folder.finished:
        gone = lost_results(folder)
        if not gone:
            emit(Event("message", f"{output} is finished; there is nothing to resume"))
            return folder
        emit(Event("message", what_is_gone(folder, gone)))
    load_run_plugins(folder.spec.plugins, output, trust_plugins)
    data = load_task(folder.spec.task, telling(emit))
    task, model = folder.spec.task.name, folder.spec.model
    here = {"task": {task: data.fingerprint}, "model": {model: load_outline(model).fingerprint}}
    finished = check_unchanged(folder, here)
    emit(Event("message", f"going on with {output}: {finished} job{'' if finished == 1 else 's'} finished so far"))
    with (
        attempting(folder, emit),
        joining(address, terms) as device,
        _crew(workers, address, device, terms) as crew,
    ):
        folder.take_back_answer()
        _run(folder, data, emit, crew)
    return folder


def lost_results(folder: RunFolder) -> list[str]:
    """Return what is gone of the jobs that a finished search rests on, as ``table/name``."""
    # runs of earlier versions do not say
    jobs = (folder.read_json("architecture.json") or {}).get("jobs", ())
    return ResultsStore(folder.results).missing(jobs)


def resolve(spec: R, device: torch.device | None = None) -> R:
    """Fill in the settings that depend on the machine, so that a resume elsewhere computes the same.

    Args:
        spec: The settings.
        device: Where it will train; default: what this machine has.
    """
    if spec.training.micro_batches is not None:
        return spec
    found = default_micro_batches(device or _device())
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


def check_unchanged(folder: RunFolder, here: Mapping[str, Mapping[str, str]]) -> int:
    """Make sure that a run's tasks and models are what they were when its jobs ran.

    Args:
        folder: The run.
        here: What they are now: fingerprints of the ``task`` and the ``model`` by their names.

    Returns:
        The number of finished jobs.

    Raises:
        InputError: If one has changed.
    """
    jobs = ResultsStore(folder.results).read("jobs")
    for what, fingerprints in here.items():
        for name, before in zip(jobs[what], jobs[f"{what}_fingerprint"], strict=True):
            if (now := fingerprints.get(name, before)) != before:
                raise InputError(
                    f"{folder.path}: the {what} '{name}' has changed since this run began (it was {before}, now "
                    f"{now}): bring the old one back, or choose another folder"
                )
    return len(jobs)


@contextmanager
def joining(address: str | None, terms: Terms) -> Iterator[torch.device]:
    """Join the cluster that a run is to share, if any; yields what its workers train on.

    Args:
        address: Ray cluster to run on; None: one on this machine, which starts later, or the one joined already.
        terms: On what terms the run shares it.

    Raises:
        RunError: If the cluster cannot be reached.
    """
    if address is None and not is_joined():
        yield _device()
        return
    with ray_cluster(address, 1):
        yield torch.device("cuda" if has_gpu(terms) else "cpu")


def named(terms: Terms, folder: RunFolder) -> Terms:
    """Call a run by its folder unless it has a name."""
    return terms if terms.job else replace(terms, job=folder.path.name)


@contextmanager
def share_of_cluster(terms: Terms, unit: Sequence[Bundle], units: int) -> Iterator[Share]:
    """Claim a share of the cluster that this process has joined: all, if it is its own.

    Args:
        terms: On what terms, with a name.
        unit: What must be there together, a bundle per process.
        units: How many units the run can use.

    Raises:
        InputError: If a unit is beyond the run's own limits.
    """
    if not is_joined():
        yield Whole(units)
        return
    check_limits(unit, terms)
    with claiming(terms, unit, units) as claimed:
        yield claimed


@dataclass(frozen=True)
class _Crew:
    """The workers of a search.

    Args:
        wanted: How many; None: as many as there are GPUs, or two on CPUs.
        use_gpu: Whether they have GPUs.
        terms: On what terms the search shares its cluster.
        request: Whether a signal has asked for an end.
    """

    wanted: int | None
    use_gpu: bool
    terms: Terms
    request: StopRequest

    @property
    def count(self) -> int:
        """How many would be of use now."""
        if self.wanted is not None:
            return self.wanted
        return max(1, room_for_workers(True), int(self.terms.gpus or 0)) if self.use_gpu else CPU_WORKERS


@contextmanager
def _crew(wanted: int | None, address: str | None, device: torch.device, terms: Terms) -> Iterator[_Crew]:
    """Join or start a cluster with room for the workers; notes signals meanwhile."""
    use_gpu = device.type == "cuda"
    # an own cluster starts with that many CPUs; it finds the GPUs by itself
    least = wanted or (1 if use_gpu or is_joined() else min(CPU_WORKERS, os.cpu_count() or 1))
    with catching_signals() as request, ray_cluster(address, least):
        check_room(worker_needs(least, use_gpu))
        check_limits(_unit(use_gpu), terms)
        yield _Crew(wanted if is_joined() or use_gpu else least, use_gpu, terms, request)


def _check_precision(spec: SearchSpec, device: torch.device) -> None:
    # a driver without a GPU cannot tell what the cluster's GPUs can do
    if device.type == "cpu" or torch.cuda.is_available():
        autocast(spec.training.precision, device)


def _unit(use_gpu: bool) -> Sequence[Bundle]:
    """What Ray Train sets aside for a worker."""
    return worker_needs(1, use_gpu).bundles


def _run(folder: RunFolder, data: TaskData, emit: Emit, crew: _Crew) -> None:
    # it imports Ray, which reads its settings then
    from prunepeft_ray.execution.following import every
    from prunepeft_ray.execution.losses import reaching_cluster
    from prunepeft_ray.execution.train_group import run_in_group

    unit = _unit(crew.use_gpu)
    kind = "GPU" if crew.use_gpu else "CPU"
    with (
        reaching_cluster(folder),
        share_of_cluster(named(crew.terms, folder), unit, crew.count) as share,
    ):
        emit(Event("accepted", ""))
        wait_for_share(share, emit, crew.request)
        count = share.units
        rest = f" of {crew.count}: there is no room for more now" if count < crew.count else ""
        emit(Event("message", f"starting {count} {kind} worker{'s' if count > 1 else ''}{rest}"))
        news = ShareNews(share, emit)

        def look() -> None:
            share.wants(crew.count)
            news.tell()

        run_in_group(folder, data, emit, share, crew.use_gpu, crew.request, every(LOOK_SECONDS, look))
