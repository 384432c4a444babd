"""Resource arithmetic: what fits on which nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Bundle = Mapping[str, float]
"""Resources that must be on one node, by kind."""


TOLERANCE = 1e-9
"""Larger than the rounding errors in sums of fractions of a device."""


def total(bundles: Iterable[Bundle]) -> dict[str, float]:
    """Add up resources."""
    found: dict[str, float] = {}
    for bundle in bundles:
        for kind, amount in bundle.items():
            found[kind] = found.get(kind, 0) + amount
    return found


def fits(unit: Sequence[Bundle], nodes: Sequence[Bundle]) -> bool:
    """Whether nodes can hold all bundles of a unit if nothing else runs there."""
    return _Room(nodes).take(unit)


class _Room:
    """The free resources of nodes."""

    def __init__(self, nodes: Sequence[Bundle]) -> None:
        # like Ray, place bundles that need no GPU on nodes without one first
        order = sorted(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)))
        self._nodes = [dict(node) for node in order]

    def take(self, unit: Sequence[Bundle]) -> bool:
        """Reserve room for all bundles of a unit, each on the first node that can hold it, or for none of them."""
        taken: list[tuple[dict[str, float], Bundle]] = []
        for bundle in unit:
            node = next((node for node in self._nodes if _holds(node, bundle)), None)
            if node is None:
                for before, gone in taken:
                    _move(before, gone, 1)
                return False
            _move(node, bundle, -1)
            taken.append((node, bundle))
        return True


def _holds(node: Bundle, bundle: Bundle) -> bool:
    return all(node.get(kind, 0) + TOLERANCE >= amount for kind, amount in bundle.items())


def _move(node: dict[str, float], bundle: Bundle, sign: int) -> None:
    for kind, amount in bundle.items():
        node[kind] = node.get(kind, 0) + sign * amount
