"""The state of a local cluster's nodes."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

from prunepeft_ray.cluster.local.state import DOWN, LocalCluster
from prunepeft_ray.cluster.private_ray.wording import NODES_PATH
from prunepeft_ray.cluster.tokens import read_token
from prunepeft_ray.errors import InputError, RunError

ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class NodeState:
    """A node, as the cluster sees it.

    Args:
        node_id: Ray's node id.
        is_head: Whether it is the head node.
        state: ``ALIVE`` or ``DEAD``.
        cpus: Number of CPUs.
        gpus: Number of GPUs.
    """

    node_id: str
    is_head: bool
    state: str
    cpus: float
    gpus: float


def node_states(cluster: LocalCluster) -> list[NodeState]:
    """The nodes of a cluster, including dead ones, as reported by its head.

    Raises:
        RunError: If the head does not answer.
    """
    rows = _ask(cluster, f"{NODES_PATH}?limit=1000")["data"]["result"]["result"]
    return [
        NodeState(
            node_id=row["node_id"],
            is_head=row["is_head_node"],
            state=row["state"],
            cpus=row["resources_total"].get("CPU", 0.0),
            gpus=row["resources_total"].get("GPU", 0.0),
        )
        for row in sorted(rows, key=lambda row: not row["is_head_node"])
    ]


def _ask(cluster: LocalCluster, path: str) -> dict[str, Any]:
    try:
        token = read_token(cluster.token_file, str(cluster.token_file))
        request = urllib.request.Request(cluster.address + path, headers=token.headers)
        # loopback must not go through a proxy
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=ANSWER_SECONDS) as answer:
            content: dict[str, Any] = json.load(answer)
            return content
    except (OSError, ValueError, InputError) as error:
        raise RunError(
            f"the local cluster at {cluster.address} does not respond ({error}); stop it with {DOWN}"
        ) from error
