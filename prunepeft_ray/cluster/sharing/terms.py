"""The terms on which a run shares a cluster. Does not import Ray."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prunepeft_ray.errors import InputError

MAX_PRIORITY = 10


@dataclass(frozen=True)
class Terms:
    """The terms on which a run shares a cluster with others.

    Args:
        job: Name of the run in the messages of others; default: the name of its folder.
        priority: From -10 to 10; a run whose priority is higher by 1 begins first and gets twice the share.
        cpus: Maximum number of CPUs its workers may use at once; None: no limit.
        gpus: Maximum number of GPUs they may use at once; None: no limit.

    Raises:
        InputError: If the priority or a limit is out of range.
    """

    job: str = ""
    priority: int = 0
    cpus: float | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        if not -MAX_PRIORITY <= self.priority <= MAX_PRIORITY:
            raise InputError(f"priority {self.priority}: expected -{MAX_PRIORITY} to {MAX_PRIORITY}")
        for kind, limit in (("CPUs", self.cpus), ("GPUs", self.gpus)):
            # NaN is in no range
            if limit is not None and not 0 < limit < math.inf:
                raise InputError(f"at most {limit:g} {kind}: expected a number greater than 0")


EQUAL_TERMS = Terms()
"""The default terms: priority 0 and no limits."""
