"""Whether a cluster can run what is submitted, before it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prunepeft_ray.config import SearchSpec
from prunepeft_ray.errors import InputError
from prunepeft_ray.execution.fairness import Bundle, fits, total
from prunepeft_ray.execution.job_server import JobServer, NodeInfo
from prunepeft_ray.execution.ledger import amount
from prunepeft_ray.execution.room import job_unit
from prunepeft_ray.execution.terms import Terms
from prunepeft_ray.study import StudySpec


def check_fits(
    server: JobServer, spec: SearchSpec | StudySpec, workers: int | None, terms: Terms, tell: Callable[[str], None]
) -> None:
    """Make sure that a cluster can hold the least that a run needs, and that its own limits let it.

    Args:
        server: The cluster.
        spec: The search or study.
        workers: Workers of a search that the user asked for.
        terms: Its limits.
        tell: Told if more is needed than there is now, but an autoscaler may bring it.

    Raises:
        InputError: If it cannot; the message says what is needed, why and what there is.
    """
    nodes = server.nodes()
    # as the driver will see it
    has_gpus = any(node.resources.get("GPU") for node in nodes) or (terms.gpus is not None and server.scales())
    unit, why = needed(spec, workers, has_gpus)
    needs = total(unit)
    for kind, limit in (("CPU", terms.cpus), ("GPU", terms.gpus)):
        if limit is not None and needs.get(kind, 0) > limit:
            raise InputError(f"the limit is {amount(limit, kind)}, but {why}: raise the limit or ask for less")
    if fits(unit, [node.resources for node in nodes]):
        return
    there = describe(nodes)
    if server.scales():
        tell(f"{why}, and the cluster has {there} now: the job waits until its autoscaler has brought more")
        return
    raise InputError(f"{why}, but the cluster at {server.address} has {there}: ask for less, or add nodes")


def needed(spec: SearchSpec | StudySpec, workers: int | None, has_gpus: bool) -> tuple[Sequence[Bundle], str]:
    """The least that a run needs at once, and that in words.

    Args:
        spec: The search or study.
        workers: Workers of a search that the user asked for.
        has_gpus: Whether its workers have GPUs unless the spec says.
    """
    if isinstance(spec, SearchSpec):
        kind, count = "GPU" if has_gpus else "CPU", workers or 1
        needs = "a worker needs" if count == 1 else f"{count} workers need"
        return [{kind: 1.0}] * count, f"{needs} {amount(count, kind)}"
    unit = job_unit(spec.execution, has_gpus)
    amounts = " and ".join(amount(number, kind) for kind, number in unit[0].items())
    each = f"{len(unit)} workers of {amounts} each" if len(unit) > 1 else amounts
    return unit, f"a training job needs {each} (execution.cpus, gpus and workers)"


def describe(nodes: list[NodeInfo]) -> str:
    """Say what nodes have, such as ``3 CPUs and 1 GPU on 2 nodes, at most 2 CPUs on one``."""
    there = total(node.resources for node in nodes)
    amounts = [amount(there.get(kind, 0), kind) for kind in ("CPU", "GPU") if kind == "CPU" or there.get(kind)]
    most = max((node.resources.get("CPU", 0) for node in nodes), default=0)
    where = f" on {len(nodes)} nodes, at most {amount(most, 'CPU')} on one" if len(nodes) > 1 else ""
    return " and ".join(amounts) + where
