"""The Pareto front of a metric, which is maximised, and a cost, which is minimised."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

K = TypeVar("K")


def pareto_front(values: Mapping[K, float], cost: Callable[[K], float]) -> list[K]:
    """Return what nothing else beats in value and cost alike, by rising cost; of equals the first.

    Args:
        values: The value by candidate; what is not finite never counts.
        cost: The cost of a candidate.
    """
    succeeded = [key for key, value in values.items() if math.isfinite(value)]
    front: list[K] = []
    for key in sorted(succeeded, key=lambda key: (cost(key), -values[key])):
        if not front or values[key] > values[front[-1]]:
            front.append(key)
    return front
