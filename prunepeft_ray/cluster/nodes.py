"""The nodes of the cluster that this process has joined."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from prunepeft_ray.cluster.private_ray.autoscaling import is_autoscaled
from prunepeft_ray.cluster.private_ray.node import autoscaler_status
from prunepeft_ray.cluster.resources import Bundle


def nodes() -> list[Bundle]:
    """Return the resources of each node that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def may_grow() -> bool:
    """Whether the cluster has an autoscaler, v1 or v2."""
    import ray

    return is_autoscaled(_report(), [node.get("Labels") or {} for node in ray.nodes() if node["Alive"]])


def _report() -> dict[str, Any]:
    # a missing report is not an error, and Ray guarantees nothing about it
    with suppress(Exception):
        return dict(json.loads(autoscaler_status() or b"{}").get("autoscaler_report") or {})
    return {}
