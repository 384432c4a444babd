"""Checking from the client, before anything is submitted, that a cluster can run a search or a study."""

from __future__ import annotations

from collections.abc import Callable

from prunepeft_ray.cluster.capacity import check_fits, check_limits, gpus_for, job_needs, job_unit, worker_needs
from prunepeft_ray.cluster.job_server import JobServer
from prunepeft_ray.cluster.sharing.terms import Terms
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.study import StudySpec


def check_submission(
    server: JobServer, spec: SearchSpec | StudySpec, workers: int | None, terms: Terms, tell: Callable[[str], None]
) -> None:
    """Check that a cluster can hold the minimum that a run needs, and that the run's own limits allow it.

    Args:
        server: The cluster.
        spec: The search or study.
        workers: Number of workers of a search, if given by the user.
        terms: The run's limits.
        tell: Callback that receives a message if more is needed than there is now, but an autoscaler may add it.

    Raises:
        InputError: If it cannot; the message says what is needed, why, and what the cluster has.
    """
    nodes = [node.resources for node in server.nodes()]
    use_gpu = gpus_for(terms, nodes, server.may_grow)
    if isinstance(spec, SearchSpec):
        unit, needs = worker_needs(1, use_gpu).bundles, worker_needs(workers or 1, use_gpu)
    else:
        unit = job_unit(spec.execution, use_gpu)
        needs = job_needs(unit)
    check_limits(unit, terms)
    if missing := check_fits(needs, nodes, server.may_grow, f"the cluster at {server.address}"):
        tell(f"{missing}: the job waits until the autoscaler has added nodes")
