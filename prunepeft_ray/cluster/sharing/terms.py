"""On what terms a run shares a cluster with others. No Ray here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prunepeft_ray.errors import InputError

MOST_PRIORITY = 10


@dataclass(frozen=True)
class Terms:
    """On what terms a run shares a cluster with others.

    Args:
        job: What others that wait are told it is called; empty: the name of its folder.
        priority: From -10 to 10; of two runs, one that is higher by 1 gets twice the share, and begins first.
        cpus: Most CPUs that its workers may have at once; None: no limit.
        gpus: Most GPUs that they may have at once; None: no limit.

    Raises:
        InputError: If the priority or a limit makes no sense.
    """

    job: str = ""
    priority: int = 0
    cpus: float | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        if not -MOST_PRIORITY <= self.priority <= MOST_PRIORITY:
            raise InputError(f"priority {self.priority}: expected -{MOST_PRIORITY} to {MOST_PRIORITY}")
        for kind, limit in (("CPUs", self.cpus), ("GPUs", self.gpus)):
            # NaN is in no range
            if limit is not None and not 0 < limit < math.inf:
                raise InputError(f"at most {limit:g} {kind}: expected a number of more than 0")


EQUAL_TERMS = Terms()
"""Those of a run that asks for nothing special."""
