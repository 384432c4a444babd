"""Periodic compaction of a run's results while it is running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prunepeft_ray.errors import PrunePEFTError
from prunepeft_ray.results import ResultsStore

PAUSE_SECONDS = 60.0
PAUSES = 50
"""Minimum pause between two compactions, as a multiple of the last one's duration: at most 2 % of the time is spent."""
GROWTH = 0.1
"""Minimum number of new files during a run, as a fraction of those compacted before; keeps compacted files few."""


@contextmanager
def compacting(store: ResultsStore, pause_seconds: float = PAUSE_SECONDS) -> Iterator[None]:
    """Return a context in which a thread compacts a store periodically, and once more when it is left.

    If a store cannot be compacted, its results are safe nevertheless, only slower to read.

    Args:
        store: The store.
        pause_seconds: Minimum time between two compactions.
    """
    over = threading.Event()

    def work() -> None:
        pause = pause_seconds
        while not over.wait(pause):
            begun = time.monotonic()
            _compact(store, GROWTH)
            pause = max(pause_seconds, PAUSES * (time.monotonic() - begun))

    thread = threading.Thread(target=work, name="prunepeft-compaction", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _compact(store)


def _compact(store: ResultsStore, growth: float = 0.0) -> None:
    with suppress(PrunePEFTError, OSError):
        store.compact(growth)
