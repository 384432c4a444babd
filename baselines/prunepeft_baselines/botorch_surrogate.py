"""AutoPEFT's surrogates as BoTorch fits them.

What is returned are hyperparameters, from which :class:`~prunepeft_baselines.gaussian_process.GaussianProcess` computes
the exact posterior. All of it in double precision, and nothing moves a global random state.
"""

from __future__ import annotations

import torch
from botorch.fit import fit_fully_bayesian_model_nuts, fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from prunepeft_baselines.gaussian_process import Floats, Hyperparameters

WARMUP, SAMPLES, THINNING = 128, 64, 4
"""AutoPEFT's settings of the sampler."""


def fit_saas(
    x: Floats, y: Floats, seed: int, warmup: int = WARMUP, samples: int = SAMPLES, thinning: int = THINNING
) -> Hyperparameters:
    """Sample the hyperparameters of a ``SaasFullyBayesianSingleTaskGP`` by the No-U-Turn sampler.

    Args:
        x: Points in the unit cube, n x d.
        y: Values of about unit variance, n.
        seed: Seeds the sampler.
        warmup: Steps that adapt the sampler.
        samples: Steps after that.
        thinning: One in so many of these is kept.
    """
    import jax

    with jax.enable_x64(True):
        model = SaasFullyBayesianSingleTaskGP(*_tensors(x, y))
        fit_fully_bayesian_model_nuts(
            model, warmup_steps=warmup, num_samples=samples, thinning=thinning, disable_progbar=True, seed=seed
        )
    return Hyperparameters(
        model.covar_module.base_kernel.lengthscale.detach().squeeze(-2),
        model.covar_module.outputscale.detach(),
        model.mean_module.constant.detach(),
        model.likelihood.noise.detach().squeeze(-1),
    )


def fit_gp(x: Floats, y: Floats, seed: int) -> Hyperparameters:
    """Fit a ``SingleTaskGP`` with a Matern-5/2 kernel: the largest likelihood times prior.

    Args:
        x: Points in the unit cube, n x d.
        y: Values of about unit variance, n.
        seed: Seeds the starts of further attempts, should the first fail.
    """
    kernel = get_covar_module_with_dim_scaled_prior(x.shape[1], use_rbf_kernel=False)
    with torch.random.fork_rng(devices=()), torch.enable_grad():
        torch.manual_seed(seed)
        model = SingleTaskGP(*_tensors(x, y), covar_module=kernel, outcome_transform=None)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return Hyperparameters(
        model.covar_module.lengthscale.detach(),
        torch.ones(1, dtype=torch.float64),
        model.mean_module.constant.detach().reshape(1),
        model.likelihood.noise.detach(),
    )


def _tensors(x: Floats, y: Floats) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(x), torch.as_tensor(y).unsqueeze(-1)
