"""All derived frames, by name."""

from __future__ import annotations

from prunepeft_ray.report.comparison_frames import BEST_SO_FAR, CHARGES, METHODS, OVERALL
from prunepeft_ray.report.cost_section import COST_CURVES
from prunepeft_ray.report.method_frames import DIFFERENCES, FINAL_METRICS, HYPERVOLUMES, POINTS
from prunepeft_ray.report.opening import DerivedFrame
from prunepeft_ray.report.pruning_frames import ARCHITECTURES_FOUND, FREQUENCIES, REMOVALS, ROUNDS
from prunepeft_ray.report.published import PUBLISHED
from prunepeft_ray.report.searches import SEARCH_STATES
from prunepeft_ray.report.time_section import TIME_SPENT, UTILISATION, WORKER_JOBS
from prunepeft_ray.report.warmup_frames import RATIOS, TENDENCIES

_ALL: tuple[DerivedFrame, ...] = (
    METHODS,
    OVERALL,
    BEST_SO_FAR,
    CHARGES,
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
