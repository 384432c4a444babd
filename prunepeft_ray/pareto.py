"""Pareto front and hypervolume for a value that is maximised and a cost that is minimised."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K")


def pareto_front(values: Mapping[K, float], cost: Callable[[K], float]) -> list[K]:
    """Return the candidates that no other dominates, by increasing cost; of equal ones, only the first.

    Args:
        values: The value of each candidate; candidates with non-finite values are ignored.
        cost: Returns the cost of a candidate.
    """
    succeeded = [key for key, value in values.items() if math.isfinite(value)]
    front: list[K] = []
    for key in sorted(succeeded, key=lambda key: (cost(key), -values[key])):
        if not front or values[key] > values[front[-1]]:
            front.append(key)
    return front


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the area dominated by points, up to a reference point; 0 if none is better than it in both objectives.

    Args:
        points: Value and cost of each point; points with non-finite values are ignored.
        reference: Value and cost of the reference point.
    """
    floor, limit = reference
    values = {place: value for place, (value, _) in enumerate(points)}
    front = [points[place] for place in pareto_front(values, lambda place: points[place][1])]
    # each point of the front is the best up to the cost of the next one
    ends = [point[1] for point in [*front, (floor, limit)]][1:]
    return sum(
        max(value - floor, 0.0) * max(min(end, limit) - cost, 0.0)
        for (value, cost), end in zip(front, ends, strict=True)
    )
