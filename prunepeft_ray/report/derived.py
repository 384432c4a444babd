"""All derived frames, by name."""

from __future__ import annotations

from prunepeft_ray.report.comparison_frames import BEST_SO_FAR, CHARGES, METHODS, OVERALL
from prunepeft_ray.report.opening import DerivedFrame
from prunepeft_ray.report.time_section import TIME_SPENT, UTILISATION, WORKER_JOBS

_ALL: tuple[DerivedFrame, ...] = (
    METHODS,
    OVERALL,
    BEST_SO_FAR,
    CHARGES,
    WORKER_JOBS,
    UTILISATION,
    TIME_SPENT,
    METHODS,
    OVERALL,
    BEST_SO_FAR,
    CHARGES,
)

DERIVED = {frame.name: frame for frame in _ALL}
