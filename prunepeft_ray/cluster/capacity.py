"""Capacity of the cluster that this process has joined. Ray is imported when it is queried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prunepeft_ray.cluster.nodes import may_grow, nodes
from prunepeft_ray.cluster.resources import Bundle, fits, total
from prunepeft_ray.cluster.sharing.terms import Terms
from prunepeft_ray.errors import InputError
from prunepeft_ray.study import StudyExecutionConfig
from prunepeft_ray.text import amount


@dataclass(frozen=True)
class Needs:
    """The minimum resources that a run needs at the same time.

    Args:
        bundles: Resources of each process.
        why: The same in words, such as ``2 workers need 2 CPUs``.
    """

    bundles: Sequence[Bundle]
    why: str


def has_gpu(terms: Terms) -> bool:
    """Whether workers use GPUs: the cluster has one, or may add one and the run sets a limit for them."""
    return gpus_for(terms, nodes(), may_grow)


def gpus_for(terms: Terms, there: Sequence[Bundle], grows: Callable[[], bool]) -> bool:
    """Whether workers use GPUs on a cluster with the given nodes.

    Args:
        terms: The run's limits.
        there: Resources of each node.
        grows: Tells whether an autoscaler may add nodes.
    """
    return any(node.get("GPU") for node in there) or (terms.gpus is not None and grows())


def room_for_workers(use_gpu: bool) -> int:
    """Number of workers that the cluster can hold at its current size."""
    return int(total(nodes()).get("GPU" if use_gpu else "CPU", 0))


def room_for_jobs(unit: Sequence[Bundle]) -> int:
    """Number of jobs that the cluster can run at once at its current size, at least 1.

    Args:
        unit: Resources of each worker of a job.
    """
    room = total(nodes())
    return max(1, min(int(room.get(kind, 0) / needed) for kind, needed in total(unit).items() if needed))


def job_unit(execution: StudyExecutionConfig, use_gpu: bool) -> list[dict[str, float]]:
    """Resources of each worker of a job.

    Args:
        execution: Execution settings of the study.
        use_gpu: Whether a worker gets a GPU if the study does not say.
    """
    gpus = execution.gpus if execution.gpus is not None else float(use_gpu)
    return [{"CPU": execution.cpus, **({"GPU": gpus} if gpus else {})}] * execution.workers


def worker_needs(workers: int, use_gpu: bool) -> Needs:
    """What the workers of a search need."""
    kind = "GPU" if use_gpu else "CPU"
    needs = "a worker needs" if workers == 1 else f"{workers} workers need"
    return Needs([{kind: 1.0}] * workers, f"{needs} {amount(workers, kind)}")


def job_needs(unit: Sequence[Bundle]) -> Needs:
    """What a training job of a study needs.

    Args:
        unit: Resources of each of its workers.
    """
    amounts = " and ".join(amount(number, kind) for kind, number in unit[0].items())
    each = f"{len(unit)} workers of {amounts} each" if len(unit) > 1 else amounts
    return Needs(unit, f"a training job needs {each} (execution.cpus, gpus and workers)")


def check_fits(needs: Needs, there: Sequence[Bundle], grows: Callable[[], bool], where: str = "the cluster") -> str:
    """Check that a cluster can hold what a run needs, since Ray would wait forever.

    Args:
        needs: The run's needs.
        there: Resources of each node.
        grows: Tells whether an autoscaler may add nodes.
        where: Name of the cluster in the message.

    Returns:
        What is missing now, if an autoscaler may add it; an empty string if nothing is missing.

    Raises:
        InputError: If it cannot and will not grow; the message says what is needed and what the cluster has.
    """
    if fits(needs.bundles, there):
        return ""
    if grows():
        return f"{needs.why}, and the cluster has {describe(there)} now"
    raise InputError(f"{needs.why}, but {where} has {describe(there)}: ask for less, or add nodes")


def check_room(needs: Needs) -> None:
    """Check that the cluster that this process has joined can hold what a run needs.

    Raises:
        InputError: If it cannot and will not grow.
    """
    check_fits(needs, nodes(), may_grow)


def describe(there: Sequence[Bundle]) -> str:
    """Describe the resources of nodes, such as ``3 CPUs and 1 GPU on 2 nodes, at most 2 CPUs on one``.

    Args:
        there: Resources of each node.
    """
    have = total(there)
    amounts = [amount(have.get(kind, 0), kind) for kind in ("CPU", "GPU") if kind == "CPU" or have.get(kind)]
    most = max((node.get("CPU", 0) for node in there), default=0)
    where = f" on {len(there)} nodes, at most {amount(most, 'CPU')} on one" if len(there) > 1 else ""
    return " and ".join(amounts) + where


def check_limits(unit: Sequence[Bundle], terms: Terms) -> None:
    """Check that a unit is within a run's limits.

    Args:
        unit: Resources that one job needs at the same time, a bundle per process.
        terms: The run's limits.

    Raises:
        InputError: If it exceeds them.
    """
    for kind, limit in (("CPU", terms.cpus), ("GPU", terms.gpus)):
        needed = total(unit).get(kind, 0)
        if limit is not None and needed > limit:
            raise InputError(f"at most {amount(limit, kind)}: expected at least {needed:g}, which a single job needs")
