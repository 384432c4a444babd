"""Gaussian processes with a Matern-5/2 kernel and one length scale per dimension: AutoPEFT's surrogates.

A fit only returns hyperparameters: one set for the plain GP, several samples for the fully Bayesian SAAS GP. BoTorch
fits both by default (``botorch_surrogate``); ``fit_map`` and ``saas`` fit the same models with likelihoods in closed
form. Everything is in double precision, and nothing uses or changes global random states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, lapack
from scipy.optimize import minimize
from torch import Tensor

Floats = NDArray[np.float64]

MIN_NOISE = 1e-4
MIN_LENGTH = 0.025
MAX_LENGTH = 1e6
LENGTH_PRIOR_SPREAD = math.sqrt(3)
NOISE_PRIOR_CENTRE, NOISE_PRIOR_SPREAD = -4.0, 1.0


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of h Gaussian processes over the same d-dimensional points.

    Args:
        lengths: Length scales, h x d.
        scale: Prior variance, h.
        mean: Prior mean, h.
        noise: Variance of the observation noise, h.
    """

    lengths: Tensor
    scale: Tensor
    mean: Tensor
    noise: Tensor


def matern(a: Tensor, b: Tensor, lengths: Tensor) -> Tensor:
    """Compute the Matern-5/2 correlation.

    Args:
        a: Points, n x d.
        b: Points, m x d.
        lengths: Length scales, h x d.

    Returns:
        Correlations, h x n x m.
    """
    inverse = lengths.reciprocal().unsqueeze(-2)
    # a fixed mode, since the default would round small batches differently from large ones
    r = math.sqrt(5) * torch.cdist(a * inverse, b * inverse, compute_mode="use_mm_for_euclid_dist")
    correlations: Tensor = (1 + r + r.square() / 3) * torch.exp(-r)
    return correlations


class GaussianProcess:
    """The posterior of Gaussian processes given observations.

    Args:
        x: Observed points, n x d.
        y: Observed values, n.
        hyperparameters: Hyperparameters of h processes.
    """

    def __init__(self, x: Tensor, y: Tensor, hyperparameters: Hyperparameters) -> None:
        self.x = x
        self.hyperparameters = hyperparameters
        noise = hyperparameters.noise[:, None, None] * torch.eye(len(x), dtype=x.dtype)
        self._root = torch.linalg.cholesky(self._prior(x, x) + noise)
        residual = y - hyperparameters.mean.unsqueeze(-1)
        self._weights = torch.cholesky_solve(residual.unsqueeze(-1), self._root)

    def _prior(self, a: Tensor, b: Tensor) -> Tensor:
        covariance: Tensor = self.hyperparameters.scale[:, None, None] * matern(a, b, self.hyperparameters.lengths)
        return covariance

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the quantities of m points that determine their posterior.

        Returns:
            Posterior means, h x m, and whitened covariances with the observations, h x n x m: the posterior covariance
            of two sets of points is their prior covariance minus the product of these.
        """
        prior = self._prior(self.x, points)
        mean = self.hyperparameters.mean.unsqueeze(-1) + (prior.transpose(-2, -1) @ self._weights).squeeze(-1)
        white: Tensor = torch.linalg.solve_triangular(self._root, prior, upper=False)
        return mean, white

    def covariance(self, a: Tensor, a_white: Tensor, b: Tensor, b_white: Tensor) -> Tensor:
        """Return the posterior covariance, h x a x b, of two sets of points with covariances from :meth:`project`."""
        covariance: Tensor = self._prior(a, b) - a_white.transpose(-2, -1) @ b_white
        return covariance

    def posterior(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the joint posterior of m points without observation noise.

        Returns:
            Means, h x m, and covariances, h x m x m.
        """
        mean, white = self.project(points)
        covariance = self.covariance(points, white, points, white)
        return mean, covariance


def root(covariance: Tensor) -> Tensor:
    """Return the Cholesky factor of covariances, with minimal jitter where rounding has made them indefinite."""
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    factor: Tensor
    for exponent in range(-9, 1):
        factor, failed = torch.linalg.cholesky_ex(covariance + 10.0**exponent * eye)
        if not failed.any():
            break
    return factor


def fit_map(x: Floats, y: Floats) -> Hyperparameters:
    """Fit a plain GP by maximum a posteriori estimation.

    The priors are BoTorch's (Hvarfner et al. 2024): log-normal length scales that grow with the square root of the
    dimension, log-normal noise, unit prior variance; the mean is free. Optimising logarithms with exact gradients takes
    a tenth of the steps that BoTorch's own fit of the plain values takes.

    Args:
        x: Points in the unit cube, n x d.
        y: Values of about unit variance, n.
    """
    dimensions = x.shape[1]
    objective = _Evidence(x, y)
    bounds = [(math.log(MIN_LENGTH), math.log(MAX_LENGTH))] * dimensions + [(math.log(MIN_NOISE), None)]
    # from the mode of the priors, where BoTorch starts, and from their medians: either may lead to a poor local optimum
    starts = ((LENGTH_PRIOR_SPREAD**2, NOISE_PRIOR_SPREAD**2), (0.0, 0.0))
    fits = [
        minimize(
            objective,
            np.append(np.full(dimensions, objective.length_centre - lower), NOISE_PRIOR_CENTRE - lower_noise),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 200},
        )
        for lower, lower_noise in starts
    ]
    found = min(fits, key=lambda fit: fit.fun).x
    lengths, noise = np.exp(found[:-1]), math.exp(found[-1])
    return Hyperparameters(
        torch.as_tensor(lengths).unsqueeze(0),
        torch.ones(1, dtype=torch.float64),
        torch.tensor([objective.mean(found)], dtype=torch.float64),
        torch.tensor([noise], dtype=torch.float64),
    )


class _Evidence:
    """Negative log posterior of the logarithms of length scales and noise, up to a constant, and its gradient."""

    def __init__(self, x: Floats, y: Floats) -> None:
        self._y = y
        self._pairs = np.triu_indices(len(x), 1)
        self._squares = (x[self._pairs[0]] - x[self._pairs[1]]) ** 2
        self.length_centre = math.sqrt(2) + math.log(x.shape[1]) / 2

    def __call__(self, logs: Floats) -> tuple[float, Floats]:
        lengths, noise = logs[:-1], math.exp(logs[-1])
        weights = np.exp(-2 * lengths)
        r = np.sqrt(5 * (self._squares @ weights))
        decay = np.exp(-r)
        factor, ones, mean = self._solve((1 + r + r**2 / 3) * decay, noise)
        alpha = cho_solve(factor, self._y) - mean * ones
        inverse = _inverse(factor)
        value = 0.5 * (self._y - mean) @ alpha + np.log(np.diag(factor[0])).sum()
        # derivatives of the likelihood by each covariance (pairs counted once), and of the covariance by the length
        pull = alpha[self._pairs[0]] * alpha[self._pairs[1]] - inverse[self._pairs]
        by_length = -(5 / 3) * weights * ((pull * (1 + r) * decay) @ self._squares)
        by_noise = -0.5 * noise * (alpha @ alpha - np.trace(inverse))
        length_z = (lengths - self.length_centre) / LENGTH_PRIOR_SPREAD
        noise_z = (logs[-1] - NOISE_PRIOR_CENTRE) / NOISE_PRIOR_SPREAD
        prior = lengths.sum() + logs[-1] + 0.5 * (length_z @ length_z + noise_z**2)
        gradient = np.append(by_length + 1 + length_z / LENGTH_PRIOR_SPREAD, by_noise + 1 + noise_z)
        return float(value + prior), gradient

    def mean(self, logs: Floats) -> float:
        """Return the maximum-likelihood mean for these logarithms."""
        r = np.sqrt(5 * (self._squares @ np.exp(-2 * logs[:-1])))
        return self._solve((1 + r + r**2 / 3) * np.exp(-r), math.exp(logs[-1]))[2]

    def _solve(self, correlations: Floats, noise: float) -> tuple[tuple[Floats, bool], Floats, float]:
        covariance = np.diag(np.full(len(self._y), (1 + noise) / 2))
        covariance[self._pairs] = correlations
        factor = cho_factor(covariance + covariance.T, lower=True)
        ones = cho_solve(factor, np.ones(len(self._y)))
        return factor, ones, float(ones @ self._y / ones.sum())


def _inverse(factor: tuple[Floats, bool]) -> Floats:
    lower = lapack.dpotri(factor[0], lower=1)[0]
    below = np.tril(lower, -1)
    inverse: Floats = below + below.T + np.diag(np.diag(lower))
    return inverse
