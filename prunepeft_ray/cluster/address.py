"""Finding the address of the cluster to use, and its token."""

from __future__ import annotations

import os
from pathlib import Path

from prunepeft_ray.cluster.job_server import check_address
from prunepeft_ray.cluster.local.state import find_local_cluster
from prunepeft_ray.cluster.tokens import Token, find_token
from prunepeft_ray.errors import InputError

VARIABLE = "RAY_API_SERVER_ADDRESS"
DASHBOARD, RAY = "http://HEAD:8265", "auto, HEAD:6379 or ray://HEAD:10001"
"""What the two kinds of addresses look like; the numbers are the default ports."""


def is_dashboard(address: str) -> bool:
    """Whether an address is that of a cluster's dashboard, where jobs are submitted."""
    return address.startswith(("http://", "https://")) or address.endswith(":8265")


def is_ray(address: str) -> bool:
    """Whether an address is Ray's own, by which a process joins a cluster."""
    return address == "auto" or address.startswith("ray://") or ("/" not in address and address.endswith(":6379"))


def check_ray_address(address: str) -> None:
    """Make sure that an address by which to join a cluster is not that of its dashboard.

    Raises:
        InputError: If it is.
    """
    if is_dashboard(address):
        raise InputError(
            f"--address {address}: this is the address of a dashboard, but joining a cluster takes Ray's own: {RAY}; "
            "or submit the run to the dashboard with 'prunepeft submit'"
        )


def find_ray(address: str) -> tuple[str, Path | None]:
    """Find the address by which to join a cluster.

    Args:
        address: Ray's own address, as the user typed it. ``"auto"`` means the cluster that ``prunepeft cluster up``
            started on this machine, if it runs and no other is set.

    Returns:
        The address; and the file with the token of that local cluster, if it is meant.
    """
    local = find_local_cluster()
    if local is None or (address != local.gcs and (address != "auto" or "RAY_ADDRESS" in os.environ)):
        return address, None
    return local.gcs, local.token_file


def is_named() -> bool:
    """Whether there is a default cluster, used when no address is given."""
    return VARIABLE in os.environ or find_local_cluster() is not None


def find_cluster(address: str | None) -> tuple[str, Token | None]:
    """Find the address of a cluster's dashboard, and the cluster's token.

    Args:
        address: What the user typed; default: ``RAY_API_SERVER_ADDRESS``, or the cluster that ``prunepeft cluster up``
            started on this machine. Ray's own address of the latter, and ``"auto"`` while it runs, mean it too.

    Raises:
        InputError: If the address is malformed, Ray's own, or not given at all, or a token cannot be read.
    """
    local = find_local_cluster()
    named = address or os.environ.get(VARIABLE) or (local.address if local else None)
    if named is None:
        raise InputError(
            f"no cluster given: use --address {DASHBOARD} or set {VARIABLE}; 'prunepeft cluster up --local 2' starts a "
            "cluster on this machine"
        )
    if local and named in ("auto", local.gcs):
        named = local.address
    if is_ray(named):
        raise InputError(
            f"{'--address' if address else VARIABLE} {named}: this is Ray's own address, but search jobs take that of "
            f"the cluster's dashboard: {DASHBOARD}"
        )
    where = check_address(named)
    ours = local is not None and where == local.address
    return where, find_token(local.token_file if local is not None and ours else None)
