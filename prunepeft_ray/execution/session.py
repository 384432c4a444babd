"""What starting a search and a study have in common: the attempt at a run, the cluster, and a share of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import torch

from prunepeft_ray.cluster.capacity import check_limits, has_gpu
from prunepeft_ray.cluster.resources import Bundle
from prunepeft_ray.cluster.session import is_joined, ray_cluster
from prunepeft_ray.cluster.sharing.claim import Share, WholeCluster, claiming
from prunepeft_ray.cluster.sharing.terms import Terms
from prunepeft_ray.config import RecipeConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.events import Emit, Event, message_emitter
from prunepeft_ray.results import Attempt, JobPool, ResultsStore, RunFolder, attempt, find_pool
from prunepeft_ray.results.compaction_thread import compacting
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.training import default_micro_batches

R = TypeVar("R", bound=RecipeConfig)


def resolve(spec: R, device: torch.device | None = None, workers: int = 1) -> R:
    """Fill in the settings that depend on the machine, so that a resume on another machine computes the same.

    Args:
        spec: The settings.
        device: Device to train on; default: that of this machine.
        workers: Number of workers that may train a job together; on CPUs, each gets a part of every batch.
    """
    if spec.training.micro_batches is not None:
        return spec
    found = default_micro_batches(device or local_device(), workers)
    training = spec.training.model_copy(update={"micro_batches": found})
    return spec.model_copy(update={"training": training})


def pool_of_run(named: str | None, plugins: Sequence[str], address: str | None, emit: Emit) -> str | None:
    """Find the pool of finished jobs that a run uses; None for none.

    Args:
        named: As in :func:`find_pool`.
        plugins: The run's plugins. Their code is not part of a job's id, so a run with plugins has no pool.
        address: Ray cluster to run on, if one was given.
        emit: Callback that receives events.

    Raises:
        InputError: If the pool was named and cannot be used.
        RunError: If its bucket cannot be reached.
    """
    folder = find_pool(named, address is not None or is_joined(), message_emitter(emit))
    if folder is None or not plugins:
        return folder
    emit(Event("message", "not using the pool of finished jobs: results may depend on the code of plugins"))
    return None


def open_pool(folder: str | None, emit: Emit) -> JobPool | None:
    """Open what :func:`pool_of_run` returned, in the process that runs jobs."""
    return None if folder is None else JobPool(open_path(folder), message_emitter(emit))


@contextmanager
def attempting(folder: RunFolder, emit: Emit) -> Iterator[Attempt]:
    """Be the only process that works on a run; if another one takes it over, stop as on Ctrl-C."""
    is_main = threading.current_thread() is threading.main_thread()
    interrupt = _interrupt if is_main else lambda: None
    with (
        attempt(folder, lambda line: emit(Event("message", line)), interrupt) as ours,
        compacting(ResultsStore(folder.results)),
    ):
        yield ours


def _interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def local_device() -> torch.device:
    """The device of this machine to train on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_unchanged(folder: RunFolder, here: Mapping[str, Mapping[str, str]]) -> int:
    """Check that a run's tasks and models have not changed since its jobs ran.

    Args:
        folder: The run.
        here: Current fingerprints under ``task`` and ``model``, by name.

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
                    f"{folder.path}: the {what} '{name}' has changed since this run began (was {before}, now {now}): "
                    "restore the old one, or choose another folder"
                )
    return len(jobs)


@contextmanager
def joining(address: str | None, terms: Terms) -> Iterator[torch.device]:
    """Join the cluster that a run is to share, if any; yields the device that its workers train on.

    Args:
        address: Ray cluster to run on; None: the one already joined, or one to be started later on this machine.
        terms: How the run shares it.

    Raises:
        RunError: If the cluster cannot be reached.
    """
    if address is None and not is_joined():
        yield local_device()
        return
    with ray_cluster(address, 1):
        yield torch.device("cuda" if has_gpu(terms) else "cpu")


def named(terms: Terms, folder: RunFolder) -> Terms:
    """Name a run after its folder unless it has a name."""
    return terms if terms.job else replace(terms, job=folder.path.name)


@contextmanager
def share_of_cluster(terms: Terms, unit: Sequence[Bundle], units: int) -> Iterator[Share]:
    """Claim a share of the cluster that this process has joined; a cluster started by this process is all its own.

    Args:
        terms: How the run shares the cluster; must contain a name.
        unit: Resources that are only of use together, a bundle per process.
        units: Number of units that the run can use.

    Raises:
        InputError: If a unit is beyond the run's own limits.
    """
    if not is_joined():
        yield WholeCluster(units)
        return
    check_limits(unit, terms)
    with claiming(terms, unit, units) as claimed:
        yield claimed


def describe_missing(folder: RunFolder, missing: list[str]) -> str:
    """Say which files are missing from a results store, and what to do.

    Args:
        folder: The run.
        missing: The files, as ``table/name``.
    """
    which = f"{missing[0]}.parquet" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
    return (
        f"{which}, needed for the answer, is missing from {folder.results} (deleted?); everything else is safe; "
        f"compute what is missing with 'prunepeft resume {folder.path}'"
    )
