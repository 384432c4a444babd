"""Deciding when to restart a worker group with more or fewer workers. Does not import Ray."""

from __future__ import annotations

import time
from collections.abc import Callable

from prunepeft_ray.cluster.sharing.claim import Share

GROW_SECONDS = 10.0
"""How long there must have been room for more workers before a restart."""
LIFE_SECONDS = 60.0
"""How long a group must have run before a restart with more workers is worthwhile."""
SHRINK_SECONDS = 5.0
"""How long the share must have been smaller before a restart."""


class Resizing:
    """Tracks how many workers a running group may have.

    Args:
        share: The search's share of the cluster.
        workers: Number of workers of the group.
        clock: Returns the time in seconds.
    """

    def __init__(self, share: Share, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._workers = workers
        self._clock = clock
        self._begun = clock()
        self._differs: tuple[int, float] = (workers, self._begun)

    def due(self) -> bool:
        """Whether the group should be restarted with another number of workers."""
        now, units = self._clock(), max(1, self._share.units)
        if units != self._differs[0]:
            self._differs = units, now
        lasted = now - self._differs[1]
        if units > self._workers:
            return lasted >= GROW_SECONDS and now - self._begun >= LIFE_SECONDS
        return units < self._workers and lasted >= SHRINK_SECONDS
