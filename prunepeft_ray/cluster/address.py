"""Finding the address of the cluster to use, and its token."""

from __future__ import annotations

import os

from prunepeft_ray.cluster.job_server import check_address
from prunepeft_ray.cluster.local.state import find_local_cluster
from prunepeft_ray.cluster.tokens import Token, find_token
from prunepeft_ray.errors import InputError

VARIABLE = "RAY_API_SERVER_ADDRESS"


def is_named() -> bool:
    """Whether there is a default cluster, used when no address is given."""
    return VARIABLE in os.environ or find_local_cluster() is not None


def find_cluster(address: str | None) -> tuple[str, Token | None]:
    """Find the address of the cluster to use, and its token.

    Args:
        address: The address given by the user; default: ``RAY_API_SERVER_ADDRESS``, or the cluster that
            ``prunepeft cluster up`` started on this machine.

    Raises:
        InputError: If the address is invalid, there is none, or the token cannot be read.
    """
    local = find_local_cluster()
    named = address or os.environ.get(VARIABLE) or (local.address if local else None)
    if named is None:
        raise InputError(
            f"no cluster given: use --address http://HEAD:8265 or set {VARIABLE}; 'prunepeft cluster up --local 2' "
            "starts a cluster on this machine"
        )
    where = check_address(named)
    ours = local is not None and where == local.address
    return where, find_token(local.token_file if local is not None and ours else None)
