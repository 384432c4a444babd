"""Which cluster is meant, and with which token."""

from __future__ import annotations

import os

from prunepeft_ray.cluster.job_server import check_address
from prunepeft_ray.cluster.local.state import find_local_cluster
from prunepeft_ray.cluster.tokens import Token, find_token
from prunepeft_ray.errors import InputError

VARIABLE = "RAY_API_SERVER_ADDRESS"


def is_named() -> bool:
    """Whether there is a cluster that is meant where none is given."""
    return VARIABLE in os.environ or find_local_cluster() is not None


def find_cluster(address: str | None) -> tuple[str, Token | None]:
    """Find the address of the cluster that is meant, and its token.

    Args:
        address: What the user wrote; default: ``RAY_API_SERVER_ADDRESS``, or the cluster that ``prunepeft cluster up``
            has started on this machine.

    Raises:
        InputError: If it is no address, there is none, or a token cannot be read.
    """
    local = find_local_cluster()
    named = address or os.environ.get(VARIABLE) or (local.address if local else None)
    if named is None:
        raise InputError(
            f"no cluster is named: give --address http://HEAD:8265 or set {VARIABLE}; 'prunepeft cluster up --local 2' "
            "starts one on this machine"
        )
    where = check_address(named)
    ours = local is not None and where == local.address
    return where, find_token(local.token_file if local is not None and ours else None)
