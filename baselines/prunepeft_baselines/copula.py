"""Gaussian copula: transforms an objective of any scale and shape to a normal one, as AutoPEFT's surrogates expect."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

TAIL = 1e-4
"""Cumulative probabilities are clamped to between this and one minus this, so that no value becomes infinite."""


class GaussianCopula:
    """The map from an objective's values to standard normal quantiles, as defined by its observed values.

    The empirical CDF, clamped to [1e-4, 1 - 1e-4], is followed by the inverse normal CDF (Zhou et al. 2024, AutoPEFT,
    Section 4; Salinas et al. 2020). Between observed values, the CDF is interpolated; below the smallest, it is zero.
    The map is non-decreasing, so it preserves maxima.

    Args:
        observed: The observed values, at least one, in any order.
    """

    def __init__(self, observed: ArrayLike) -> None:
        values, counts = np.unique(np.asarray(observed, dtype=np.float64), return_counts=True)
        self._values = values
        self._shares = np.cumsum(counts) / counts.sum()

    def __call__(self, values: ArrayLike) -> NDArray[np.float64]:
        """Transform values, observed or not.

        Args:
            values: Values of any shape.

        Returns:
            Normal quantiles of the same shape, between -3.72 and 3.72.
        """
        share = np.interp(np.asarray(values, dtype=np.float64), self._values, self._shares, left=0.0)
        return np.asarray(ndtri(np.clip(share, TAIL, 1 - TAIL)), dtype=np.float64)
