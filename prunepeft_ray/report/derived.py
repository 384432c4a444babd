"""All derived frames, by name."""

from __future__ import annotations

from prunepeft_ray.report.opening import DerivedFrame
from prunepeft_ray.report.pruning_frames import ARCHITECTURES_FOUND, FREQUENCIES, REMOVALS, ROUNDS
from prunepeft_ray.report.searches import SEARCH_STATES
from prunepeft_ray.report.time_section import TIME_SPENT, UTILISATION, WORKER_JOBS
from prunepeft_ray.report.warmup_frames import RATIOS, TENDENCIES

_ALL: tuple[DerivedFrame, ...] = (
    SEARCH_STATES,
    RATIOS,
    TENDENCIES,
    REMOVALS,
    FREQUENCIES,
    ROUNDS,
    ARCHITECTURES_FOUND,
    WORKER_JOBS,
    UTILISATION,
    TIME_SPENT,
)

DERIVED = {frame.name: frame for frame in _ALL}
