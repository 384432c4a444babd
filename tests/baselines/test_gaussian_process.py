from functools import partial

import numpy as np
import pytest
import torch
from bayes_toys import botorch_gp, botorch_saas, make_data, some_hyperparameters
from gpytorch.mlls import ExactMarginalLogLikelihood

from prunepeft_baselines.botorch_surrogate import fit_gp
from prunepeft_baselines.gaussian_process import GaussianProcess, fit_map, matern, root


def candidates():
    return torch.as_tensor(make_data(n=7, seed=9)[0])


def test_the_kernel_has_its_known_values():
    points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    # at distance r: (1 + sqrt5 r + 5/3 r^2) exp(-sqrt5 r)
    expected = torch.tensor([[[1, 0.523994], [0.523994, 1]], [[1, 0.828649], [0.828649, 1]]], dtype=torch.float64)
    lengths = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    torch.testing.assert_close(matern(points, points, lengths), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_posterior_is_that_of_botorch():
    x, y = make_data()
    settings = some_hyperparameters(1)
    mean, covariance = GaussianProcess(torch.as_tensor(x), torch.as_tensor(y), settings).posterior(candidates())
    theirs = botorch_gp(x, y, settings).posterior(candidates())
    torch.testing.assert_close(mean[0], theirs.mean.squeeze(-1))
    torch.testing.assert_close(covariance[0], theirs.distribution.covariance_matrix)


@torch.no_grad()
def test_the_posterior_of_a_sample_of_processes_is_that_of_botorch():
    x, y = make_data()
    settings = some_hyperparameters(3)
    mean, covariance = GaussianProcess(torch.as_tensor(x), torch.as_tensor(y), settings).posterior(candidates())
    theirs = botorch_saas(x, y, settings).posterior(candidates()).distribution
    torch.testing.assert_close(mean, theirs.mean)
    torch.testing.assert_close(covariance, theirs.covariance_matrix)


def test_the_fit_is_no_worse_than_that_of_botorch_by_its_own_measure():
    x, y = make_data()
    theirs = botorch_gp(x, y, fit_gp(x, y, seed=0))
    ours = botorch_gp(x, y, fit_map(x, y))
    assert evidence(ours) >= evidence(theirs) - 1e-6


@torch.no_grad()
def test_a_surface_without_local_optima_gives_both_fits_the_same_posterior():
    x, y = make_data()
    observed = torch.as_tensor(x), torch.as_tensor(y)
    mean, covariance = GaussianProcess(*observed, fit_map(x, y)).posterior(candidates())
    theirs = GaussianProcess(*observed, fit_gp(x, y, seed=0)).posterior(candidates())
    torch.testing.assert_close((mean, covariance), theirs, rtol=1e-2, atol=1e-3)


def evidence(model):
    model.train()
    with torch.no_grad():
        return ExactMarginalLogLikelihood(model.likelihood, model)(model(*model.train_inputs), model.train_targets)


def test_the_fit_finds_which_dimensions_matter():
    x, noise = make_data(n=40)
    lengths = fit_map(x, 2 * x[:, 2] - 1 + 0.01 * noise).lengths[0]
    assert lengths.argmin() == 2
    assert lengths.sort().values[1] > 2 * lengths[2]


@pytest.mark.parametrize("fit", [fit_map, partial(fit_gp, seed=0)])
def test_a_fit_neither_uses_nor_moves_the_global_random_state(fit):
    x, y = make_data()
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first = fit(x, y)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
    torch.manual_seed(2)
    assert torch.equal(fit(x, y).lengths, first.lengths)


def test_a_singular_covariance_has_a_root():
    ones = torch.ones(1, 3, 3, dtype=torch.float64)
    factor = root(ones)
    torch.testing.assert_close(factor @ factor.mT, ones, atol=1e-8, rtol=0)


@pytest.mark.parametrize("y", [np.zeros(6), np.r_[np.zeros(5), 3.7]])
def test_a_fit_survives_values_that_hardly_vary(y):
    fitted = fit_map(make_data(n=6)[0], y)
    assert all(torch.isfinite(part).all() for part in (fitted.lengths, fitted.mean, fitted.noise))
