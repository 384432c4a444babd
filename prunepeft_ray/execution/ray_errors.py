"""Interpreting Ray's errors: what happened to lost workers, and which errors of ours they carry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, RayError

from prunepeft_ray.cluster.private_ray.train import (
    RayTrainError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
    carried_errors,
)
from prunepeft_ray.cluster.private_ray.wording import says_out_of_memory
from prunepeft_ray.errors import PrunePEFTError, RunError
from prunepeft_ray.execution.interruptions import BrokenGroupError
from prunepeft_ray.results import RunFolder
from prunepeft_ray.text import last_line

RAY_ERRORS = (RayError, RayTrainError, ConnectionError)
"""What Ray raises when a worker, a node, an object, a connection or anything else of its own has failed."""


def how_to_resume(folder: RunFolder) -> str:
    """Say what is safe when a run ends early, and what to type next."""
    return f"finished jobs and checkpoints are safe; resume with 'prunepeft resume {folder.path}'"


@contextmanager
def reaching_cluster(folder: RunFolder) -> Iterator[None]:
    """Turn an error of Ray that was not handled inside into one clear line.

    Raises:
        RunError: If there is such an error: the cluster, or the connection to it, is lost.
    """
    try:
        yield
    except RAY_ERRORS as error:
        text = f"{type(error).__name__}: {last_line(error)}"
        raise RunError(f"the cluster no longer answers ({text}); {how_to_resume(folder)}") from error


def own_error(error: BaseException | None) -> PrunePEFTError | None:
    """Return the :class:`PrunePEFTError` that an error of Ray wraps, if any."""
    if error is None or isinstance(error, PrunePEFTError):
        return error
    inner = carried_errors(error)
    return next((found for one in inner if isinstance(one, Exception) and (found := own_error(one))), None)


def is_worker_loss(error: Exception) -> bool:
    """Whether only workers were lost, and not the objects that they share."""
    failures = getattr(error, "worker_failures", {}).values()
    causes = [getattr(one, "cause", one) for one in failures]
    return bool(causes) and not any(isinstance(cause, ObjectLostError) for cause in causes)


def describe_failure(error: Exception) -> str:
    """Describe in a few words what an error of Ray says about a worker group."""
    if losses := describe_losses(getattr(error, "worker_failures", {})):
        return losses
    cause = getattr(error, "controller_failure", error)
    if isinstance(cause, WorkerGroupStartupFailedError | WorkerGroupStartupTimeoutError):
        return f"no worker can start: {last_line(cause)}"
    return f"the worker group failed: {type(cause).__name__}: {last_line(cause)}"


def describe_losses(errors: Mapping[int, Exception]) -> str:
    """Describe in a few words what happened to a group, leaving out workers that merely lost the connection."""
    causes = {rank: error for rank, error in errors.items() if not lost_connection(error)} or errors
    return "; ".join(describe_loss(rank, error) for rank, error in sorted(causes.items()))


def lost_connection(error: Exception) -> bool:
    """Whether a worker failed because another one of its group was gone."""
    return isinstance(error, RuntimeError) and re.search("onnection (closed|reset) by peer", str(error)) is not None


def is_memory_loss(error: Exception) -> bool:
    """Whether a worker was killed because its node ran out of memory."""
    cause = getattr(error, "health_check_failure", error)
    return isinstance(cause, OutOfMemoryError) or says_out_of_memory(cause)


def describe_loss(rank: int, error: Exception) -> str:
    """Describe in a few words what happened to a worker."""
    if is_memory_loss(error):
        return f"worker {rank} was killed because its node is low on memory"
    if isinstance(error, WorkerHealthCheckTimeoutError):
        return f"worker {rank} no longer responds"
    if isinstance(error, RayActorError | WorkerHealthCheckFailedError):
        return f"worker {rank} died"
    if isinstance(error, BrokenGroupError):
        return f"worker {rank} left a job that the group trains together"
    if lost_connection(error):
        return f"worker {rank} lost the connection to another worker"
    return f"worker {rank} failed: {type(error).__name__}: {last_line(error)}"
