"""Whether an autoscaler looks after a cluster, told from what the cluster says of itself. No Ray here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

GROUP_LABEL = "ray.io/node-group"
"""Label of a node that Ray's autoscaler v2 has started: its type."""
_BY_HAND = re.compile(r"node_?[0-9a-f]{20,}", re.IGNORECASE)
"""What Ray calls the type of a node that no autoscaler has started."""
_COUNTED = ("active_nodes", "idle_nodes", "pending_launches")


def is_autoscaled(report: Mapping[str, Any], labels: Iterable[Mapping[str, str]]) -> bool:
    """Whether nodes may come by themselves: some that are there are of types that have names.

    Args:
        report: Report of the autoscaler v1, as it lies in the cluster or as its dashboard spells it; empty if there is
            none.
        labels: Labels of each node, among which v2 puts its type.
    """
    types = {label[GROUP_LABEL] for label in labels if label.get(GROUP_LABEL)}
    for part in _COUNTED:
        types |= set(_part(report, part))
    types |= set(_part(report, "node_type_mapping").values())
    return any(not _BY_HAND.fullmatch(name) for name in types)


def _part(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    first, *others = name.split("_")
    return report.get(name) or report.get(first + "".join(map(str.capitalize, others))) or {}
