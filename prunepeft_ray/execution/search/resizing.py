"""When a group of workers should start again with more or fewer of them. Does not import Ray."""

from __future__ import annotations

import time
from collections.abc import Callable

from prunepeft_ray.cluster.sharing.claim import Share

GROW_SECONDS = 10.0
"""How long there must have been room for more workers."""
LIFE_SECONDS = 60.0
"""How long a group must have worked before it is worth a start to have more workers."""
SHRINK_SECONDS = 5.0
"""How long others must have needed the room."""


class Resizing:
    """Watches how many workers a running group may have.

    Args:
        share: What the search may use.
        workers: Workers of the group.
        clock: Tells the time, in seconds.
    """

    def __init__(self, share: Share, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._workers = workers
        self._clock = clock
        self._begun = clock()
        self._differs: tuple[int, float] = (workers, self._begun)

    def due(self) -> bool:
        """Whether the group should start again with another number of workers."""
        now, units = self._clock(), max(1, self._share.units)
        if units != self._differs[0]:
            self._differs = units, now
        lasted = now - self._differs[1]
        if units > self._workers:
            return lasted >= GROW_SECONDS and now - self._begun >= LIFE_SECONDS
        return units < self._workers and lasted >= SHRINK_SECONDS
