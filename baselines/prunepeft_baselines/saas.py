"""Fully Bayesian Gaussian process with sparse axis-aligned subspace priors (SAAS; Eriksson and Jankowiak 2021)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import torch
from numpyro.infer import MCMC, NUTS

from prunepeft_baselines.botorch_surrogate import SAMPLES, THINNING, WARMUP
from prunepeft_baselines.gaussian_process import MIN_NOISE, Floats, Hyperparameters

DEPTH = 6
SHRINKAGE = 0.1
PADDING = 32
"""Observations are padded to a multiple of this number, so that eight batches of four share one compilation."""


def fit_saas(
    x: Floats, y: Floats, seed: int, warmup: int = WARMUP, samples: int = SAMPLES, thinning: int = THINNING
) -> Hyperparameters:
    """Sample hyperparameters with the No-U-Turn sampler.

    Model, priors and sampler are those of BoTorch's ``SaasFullyBayesianSingleTaskGP`` and
    ``fit_fully_bayesian_model_nuts``, and produce the same samples for the same seed until rounding errors accumulate.
    This is faster because it computes distances as a matrix product and the likelihood's gradient in closed form, and
    compiles only once for similar numbers of observations.

    Args:
        x: Points in the unit cube, n x d.
        y: Values of about unit variance, n.
        seed: Seed of the sampler.
        warmup: Number of steps that adapt the sampler.
        samples: Number of steps after the warm-up.
        thinning: Interval at which samples are kept.
    """
    length = -(-len(x) // PADDING) * PADDING
    rows = np.arange(length) < len(x)
    with jax.enable_x64(True):
        sampler = _sampler(warmup, samples, length, x.shape[1])
        padded_x, padded_y = (np.concatenate([v, np.zeros((length - len(x), *v.shape[1:]))]) for v in (x, y))
        sampler.run(jax.random.PRNGKey(seed), padded_x, padded_y, rows)
        kept = {name: np.asarray(values)[::thinning] for name, values in sampler.get_samples().items()}
    inverse_squares = kept["kernel_tausq"][:, None] * kept["_kernel_inv_length_sq"]
    return Hyperparameters(
        torch.tensor(1 / np.sqrt(inverse_squares)),
        torch.tensor(kept["outputscale"]),
        torch.tensor(kept["mean"]),
        torch.tensor(MIN_NOISE + kept["noise"]),
    )


@lru_cache(maxsize=4)
def _sampler(warmup: int, samples: int, _length: int, _dimensions: int) -> MCMC:
    """Return a sampler, which remains compiled for data of one shape."""
    kernel = NUTS(saas_model, dense_mass=True, max_tree_depth=DEPTH)
    return MCMC(kernel, num_warmup=warmup, num_samples=samples, progress_bar=False, jit_model_args=True)


def saas_model(x: Any, y: Any, rows: Any) -> None:
    """Define the model for NumPyro.

    Args:
        x: Points, n x d.
        y: Values, n.
        rows: Mask of the rows that are observations; the others are padding.
    """
    scale = numpyro.sample("outputscale", dist.Gamma(jnp.array(2.0), jnp.array(0.15)))
    mean = numpyro.sample("mean", dist.Normal(jnp.array(0.0), jnp.array(1.0)))
    noise = MIN_NOISE + numpyro.sample("noise", dist.Gamma(jnp.array(0.9), jnp.array(10.0)))
    shrinkage = numpyro.sample("kernel_tausq", dist.HalfCauchy(jnp.array(SHRINKAGE)))
    inverse_squares = numpyro.sample("_kernel_inv_length_sq", dist.HalfCauchy(jnp.ones(x.shape[1])))
    numpyro.factor("Y", _log_likelihood(scale, mean, noise, shrinkage * inverse_squares, x, y, rows))


def _plain_log_likelihood(*arguments: Any) -> Any:
    """Log density of the observations for scale, mean, noise, inverse squared lengths, points, values and rows."""
    return _log_likelihood_forward(*arguments)[0]


def _log_likelihood_forward(scale: Any, mean: Any, noise: Any, weights: Any, x: Any, y: Any, rows: Any) -> Any:
    weighted = x * weights
    norms = (weighted * x).sum(-1)
    # distances as a matrix product; padding is far from everything, and has variance 1
    squares = jnp.maximum(norms[:, None] + norms[None, :] - 2 * weighted @ x.T, 0)
    r = jnp.sqrt(5 * squares)
    decay = jnp.where(rows[:, None] & rows[None, :], jnp.exp(-r), 0.0)
    correlations = (1 + r + r * r / 3) * decay
    factor = jnp.linalg.cholesky(scale * correlations + jnp.diag(jnp.where(rows, noise, 1.0)))
    whitening = jax.scipy.linalg.solve_triangular(factor, jnp.eye(len(y)), lower=True)
    inverse = whitening.T @ whitening
    residual = jnp.where(rows, y - mean, 0.0)
    alpha = inverse @ residual
    normalisation = jnp.log(jnp.diagonal(factor)).sum() + 0.5 * math.log(2 * math.pi) * rows.sum()
    value = -0.5 * residual @ alpha - normalisation
    return value, (scale, x, rows, alpha, inverse, correlations, -5 / 6 * (1 + r) * decay)


def _log_likelihood_backward(saved: Any, slope: Any) -> Any:
    scale, x, rows, alpha, inverse, correlations, by_square = saved
    by_covariance = 0.5 * (jnp.outer(alpha, alpha) - inverse)
    pull = scale * by_covariance * by_square
    # the sum over all pairs of pull times squared difference, in every dimension
    by_weight = 2 * ((x * x * pull.sum(-1, keepdims=True)).sum(0) - (x * (pull @ x)).sum(0))
    by_scale = (by_covariance * correlations).sum()
    by_noise = jnp.where(rows, jnp.diagonal(by_covariance), 0.0).sum()
    return *(slope * part for part in (by_scale, alpha.sum(), by_noise, by_weight)), None, None, None


# in closed form, since differentiating through the factorisation would take twice as long
_log_likelihood: Any = jax.custom_vjp(_plain_log_likelihood)
_log_likelihood.defvjp(_log_likelihood_forward, _log_likelihood_backward)
