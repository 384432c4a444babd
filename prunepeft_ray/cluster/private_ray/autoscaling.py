"""Detecting from a cluster's own reports whether it has an autoscaler. Does not import Ray."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

GROUP_LABEL = "ray.io/node-group"
"""The label in which Ray's autoscaler v2 puts the type of each node that it starts."""
_BY_HAND = re.compile(r"node_?[0-9a-f]{20,}", re.IGNORECASE)
"""The type that Ray gives to nodes not started by an autoscaler."""
_COUNTED = ("active_nodes", "idle_nodes", "pending_launches")


def is_autoscaled(report: Mapping[str, Any], labels: Iterable[Mapping[str, str]]) -> bool:
    """Whether nodes may be added automatically: some existing node is of a type that has a name.

    Args:
        report: Report of the autoscaler v1, as stored in the cluster or as spelled by its dashboard; empty if there is
            none.
        labels: Labels of each node; the autoscaler v2 puts its type there.
    """
    types = {label[GROUP_LABEL] for label in labels if label.get(GROUP_LABEL)}
    for part in _COUNTED:
        types |= set(_part(report, part))
    types |= set(_part(report, "node_type_mapping").values())
    return any(not _BY_HAND.fullmatch(name) for name in types)


def _part(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    first, *others = name.split("_")
    return report.get(name) or report.get(first + "".join(map(str.capitalize, others))) or {}
