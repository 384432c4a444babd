"""All derived frames, by name."""

from __future__ import annotations

from prunepeft_ray.report.comparison_frames import BEST_SO_FAR, CHARGES, METHODS, OVERALL
from prunepeft_ray.report.cost_section import COST_CURVES
from prunepeft_ray.report.method_frames import DIFFERENCES, FINAL_METRICS, HYPERVOLUMES, POINTS
from prunepeft_ray.report.opening import DerivedFrame
from prunepeft_ray.report.published import PUBLISHED
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
    FINAL_METRICS,
    DIFFERENCES,
    POINTS,
    HYPERVOLUMES,
    COST_CURVES,
    PUBLISHED,
)

DERIVED = {frame.name: frame for frame in _ALL}
