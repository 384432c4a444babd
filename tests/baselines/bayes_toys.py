"""Data, and BoTorch's own models with given hyperparameters, to compare with."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from botorch.models import SingleTaskGP
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior

from prunepeft_baselines.gaussian_process import Hyperparameters


def make_data(n: int = 24, dimensions: int = 6, seed: int = 0):
    """Different points of the binary cube and a noisy sum of some of their coordinates, about standardised."""
    rng = np.random.default_rng(seed)
    x = cube(dimensions)[rng.permutation(2**dimensions)[:n]]
    y = x @ np.linspace(0, 1, dimensions) ** 2 + rng.normal(0, 0.2, n)
    return x, (y - y.mean()) / y.std(ddof=1)


def cube(dimensions: int = 6):
    """All points of zeros and ones."""
    return np.array(list(product((0.0, 1.0), repeat=dimensions)))


def some_hyperparameters(processes: int, dimensions: int = 6) -> Hyperparameters:
    generator = torch.Generator().manual_seed(1)

    def between(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, dtype=torch.float64, generator=generator)

    return Hyperparameters(
        between(0.7, 4, processes, dimensions),
        between(0.5, 2, processes) if processes > 1 else torch.ones(1, dtype=torch.float64),
        between(-0.3, 0.3, processes),
        between(0.02, 0.1, processes),
    )


def botorch_gp(x, y, hyperparameters: Hyperparameters | None = None) -> SingleTaskGP:
    x, y = torch.as_tensor(x), torch.as_tensor(y).unsqueeze(-1)
    kernel = get_covar_module_with_dim_scaled_prior(x.shape[1], use_rbf_kernel=False)
    model = SingleTaskGP(x, y, covar_module=kernel, outcome_transform=None)
    if hyperparameters:
        model.covar_module.lengthscale = hyperparameters.lengths
        model.likelihood.noise = hyperparameters.noise
        model.mean_module.constant.data = hyperparameters.mean[0]
    return model.eval()


def botorch_saas(x, y, hyperparameters: Hyperparameters) -> SaasFullyBayesianSingleTaskGP:
    model = SaasFullyBayesianSingleTaskGP(torch.as_tensor(x), torch.as_tensor(y).unsqueeze(-1))
    model.load_mcmc_samples(
        {
            "lengthscale": hyperparameters.lengths,
            "outputscale": hyperparameters.scale,
            "mean": hyperparameters.mean,
            "noise": hyperparameters.noise,
        }
    )
    return model.eval()
