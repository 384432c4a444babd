"""How many seconds a job takes: a model that is fitted to measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy.optimize import nnls

from prunepeft_ray.errors import InputError
from prunepeft_ray.execution.simulation.footprint import TERMS, Footprint

FOLDS = 200
"""Maximum number of measurements that are left out, one by one, to estimate the error."""


@dataclass(frozen=True)
class Measured:
    """A job that has run.

    Args:
        footprint: The amounts of work in it.
        seconds: The time it took.
    """

    footprint: Footprint
    seconds: float


@dataclass(frozen=True)
class Costs:
    """Seconds per unit of each of the :data:`TERMS`, and how well they fit.

    Args:
        per_unit: Seconds per unit, none of them negative.
        jobs: Number of measurements that they are fitted to.
        error: Median relative error of the prediction for a job that was left out of the fit; NaN for a single one.
        source: Where the measurements are from.
    """

    per_unit: tuple[float, ...]
    jobs: int
    error: float
    source: str

    def seconds(self, footprint: Footprint) -> float:
        """Predict how long a job takes."""
        return float(np.dot(footprint.amounts, self.per_unit))

    def named(self) -> dict[str, float]:
        """Return seconds per unit by term."""
        return dict(zip(TERMS, self.per_unit, strict=True))


def fit_costs(measured: Sequence[Measured], source: str) -> Costs:
    """Fit costs to measurements by non-negative least squares of relative errors.

    Args:
        measured: The measurements, at least one.
        source: Where they are from.

    Raises:
        InputError: If there are no measurements.
    """
    if not measured:
        raise InputError(f"{source}: there are no finished jobs to take durations from")
    errors = left_out_errors(measured)
    return Costs(_fit(measured), len(measured), median(errors) if errors else float("nan"), source)


def left_out_errors(measured: Sequence[Measured]) -> list[float]:
    """Return the relative errors of predictions for jobs by a fit to all others; for :data:`FOLDS` jobs at most."""
    if len(measured) < 2:
        return []
    chosen = range(0, len(measured), -(-len(measured) // FOLDS))
    return [_error(measured[i], _fit([*measured[:i], *measured[i + 1 :]])) for i in chosen]


def _error(one: Measured, per_unit: tuple[float, ...]) -> float:
    return abs(float(np.dot(one.footprint.amounts, per_unit)) / one.seconds - 1)


def _fit(measured: Sequence[Measured]) -> tuple[float, ...]:
    relative = np.array([one.footprint.amounts for one in measured]) / [[one.seconds] for one in measured]
    # columns of one scale, since amounts differ by orders of magnitude
    scale = np.linalg.norm(relative, axis=0)
    scale[scale == 0] = 1
    found, _ = nnls(relative / scale, np.ones(len(measured)))
    return tuple(float(value) for value in found / scale)
