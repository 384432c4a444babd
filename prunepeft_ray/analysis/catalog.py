"""All derived frames, by name."""

from __future__ import annotations

from prunepeft_ray.analysis.comparison_frames import BEST_SO_FAR, CHARGES, METHODS, OVERALL
from prunepeft_ray.analysis.cost_frames import COST_CURVES
from prunepeft_ray.analysis.frame import DerivedFrame
from prunepeft_ray.analysis.method_frames import DIFFERENCES, FINAL_METRICS, HYPERVOLUMES, POINTS
from prunepeft_ray.analysis.pruning_frames import ARCHITECTURES_FOUND, FREQUENCIES, REMOVALS, ROUNDS
from prunepeft_ray.analysis.published import PUBLISHED
from prunepeft_ray.analysis.searches import SEARCH_STATES
from prunepeft_ray.analysis.time_frames import TIME_SPENT, UTILISATION, WORKER_JOBS
from prunepeft_ray.analysis.warmup_frames import RATIOS, TENDENCIES

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
    FINAL_METRICS,
    DIFFERENCES,
    POINTS,
    HYPERVOLUMES,
    COST_CURVES,
    PUBLISHED,
)

DERIVED = {frame.name: frame for frame in _ALL}
