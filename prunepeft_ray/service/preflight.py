"""Whether a cluster can run what is submitted, before it is: the answer that the driver will give, from afar."""

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
    nodes = [node.resources for node in server.nodes()]
    use_gpu = gpus_for(terms, nodes, server.may_grow)
    if isinstance(spec, SearchSpec):
        unit, needs = worker_needs(1, use_gpu).bundles, worker_needs(workers or 1, use_gpu)
    else:
        unit = job_unit(spec.execution, use_gpu)
        needs = job_needs(unit)
    check_limits(unit, terms)
    if missing := check_fits(needs, nodes, server.may_grow, f"the cluster at {server.address}"):
        tell(f"{missing}: the job waits until its autoscaler has brought more")
