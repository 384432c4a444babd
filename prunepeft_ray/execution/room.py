"""What the cluster that this process has joined has room for; Ray is imported when asked."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.execution.fairness import Bundle, fits, total
from prunepeft_ray.execution.ledger import amount
from prunepeft_ray.execution.terms import Terms
from prunepeft_ray.study import StudyExecutionConfig

BY_HAND = re.compile(r"node_[0-9a-f]{20,}")
"""What Ray calls the type of a node that no autoscaler has started."""


def nodes() -> list[Bundle]:
    """Return the resources of each node that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def has_gpu(terms: Terms) -> bool:
    """Whether workers are to have GPUs: the cluster has one, or may get one and the run has a limit for them."""
    return any(node.get("GPU") for node in nodes()) or (terms.gpus is not None and may_grow())


def room_for_workers(use_gpu: bool) -> int:
    """Number of workers that the cluster as it is now can hold."""
    return int(total(nodes()).get("GPU" if use_gpu else "CPU", 0))


def room_for_jobs(unit: Sequence[Bundle]) -> int:
    """Number of jobs that the cluster as it is now can run at once, at least 1.

    Args:
        unit: Resources of each worker of a job.
    """
    room = total(nodes())
    return max(1, min(int(room.get(kind, 0) / needed) for kind, needed in total(unit).items() if needed))


def may_grow() -> bool:
    """Whether an autoscaler looks after the cluster: it reports nodes of types that have names."""
    return any(not BY_HAND.fullmatch(name) for name in _reported_types())


def _reported_types() -> set[str]:
    """Types of nodes in the reports of Ray's autoscaler, of its first or its second version."""
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.experimental.internal_kv import _internal_kv_get

    found: set[str] = set()
    # its absence is no error, and Ray promises nothing about these
    with suppress(Exception):
        report = json.loads(_internal_kv_get("__autoscaling_status") or b"{}").get("autoscaler_report", {})
        for part in ("active_nodes", "idle_nodes", "pending_launches"):
            found |= set(report.get(part) or {})
        found |= set((report.get("node_type_mapping") or {}).values())
    with suppress(Exception):
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        if status.stats.autoscaler_version not in (None, "0"):
            found |= {node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes)}
    return found


def job_unit(execution: StudyExecutionConfig, use_gpu: bool) -> list[dict[str, float]]:
    """Resources of each worker of a job.

    Args:
        execution: How jobs run.
        use_gpu: Whether a worker has a GPU unless the study says.
    """
    gpus = execution.gpus if execution.gpus is not None else float(use_gpu)
    return [{"CPU": execution.cpus, **({"GPU": gpus} if gpus else {})}] * execution.workers


def check_room(workers: int, use_gpu: bool) -> None:
    """Make sure that the cluster can hold the workers, since Ray would wait for ever.

    Raises:
        RunError: If it cannot, and will not grow; the message says what is missing.
    """
    room, kind = room_for_workers(use_gpu), "GPU" if use_gpu else "CPU"
    if room < workers and not may_grow():
        raise RunError(
            f"{workers} worker{'s need' if workers > 1 else ' needs'} {amount(workers, kind)}, but the cluster has "
            f"{room}: give a smaller --workers"
        )


def check_job_fits(unit: Sequence[Bundle]) -> None:
    """Make sure that the cluster can hold at least one job, since Ray would wait for ever.

    Args:
        unit: Resources of each worker of a job.

    Raises:
        RunError: If it cannot, and will not grow; the message says what is missing.
    """
    there = nodes()
    if fits(unit, there) or may_grow():
        return
    room = total(there)
    smaller = "give a smaller execution.workers, execution.cpus or execution.gpus"
    for kind, needed in total(unit).items():
        if needed > room.get(kind, 0):
            raise RunError(f"a job needs {needed:g} {kind}s, but the cluster has {room.get(kind, 0):g}: {smaller}")
    each = " and ".join(amount(number, kind) for kind, number in unit[0].items())
    raise RunError(f"each worker of a job needs {each} on one node, and no {len(unit)} fit on the cluster: {smaller}")


def check_limits(unit: Sequence[Bundle], terms: Terms) -> None:
    """Make sure that what must be there together is within a run's limits.

    Raises:
        InputError: If it is not.
    """
    for kind, limit in (("CPU", terms.cpus), ("GPU", terms.gpus)):
        needed = total(unit).get(kind, 0)
        if limit is not None and needed > limit:
            raise InputError(
                f"at most {amount(limit, kind)}: expected at least {needed:g}, which one job needs at once"
            )
