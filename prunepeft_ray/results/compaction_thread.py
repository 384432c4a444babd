"""Keeping the results of a run quick to read while it goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prunepeft_ray.errors import PrunePEFTError
from prunepeft_ray.results import ResultsStore

PAUSE_SECONDS = 60.0
PAUSES = 50
"""Least pause between two merges, as a multiple of what the last one took: it never takes more than a fiftieth."""
GROWTH = 0.1
"""Least number of new files while the run goes on, as a share of those merged before, so that merged parts stay few."""


@contextmanager
def merging(store: ResultsStore, pause_seconds: float = PAUSE_SECONDS) -> Iterator[None]:
    """Merge finished jobs now and then, beside whatever is done inside, and once more at its end, however it ends.

    A store that cannot be merged is left as it is: what lies in it is safe, only slower to read.

    Args:
        store: The store.
        pause_seconds: Shortest time between two merges.
    """
    over = threading.Event()

    def work() -> None:
        pause = pause_seconds
        while not over.wait(pause):
            begun = time.monotonic()
            _merge(store, GROWTH)
            pause = max(pause_seconds, PAUSES * (time.monotonic() - begun))

    thread = threading.Thread(target=work, name="merging", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _merge(store)


def _merge(store: ResultsStore, growth: float = 0.0) -> None:
    with suppress(PrunePEFTError, OSError):
        store.merge(growth)
