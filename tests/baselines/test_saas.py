import jax
import numpy as np
import pytest
import torch
from bayes_toys import make_data
from botorch.models.fully_bayesian import SaasPyroModel
from numpyro.infer.util import log_density

from prunepeft_baselines import botorch_surrogate, saas
from prunepeft_baselines.saas import fit_saas, saas_model

FEW = {"warmup": 2, "samples": 4, "thinning": 2}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def settings(seed):
    rng = np.random.default_rng(seed)
    return {
        "outputscale": rng.gamma(2),
        "mean": rng.normal(),
        "noise": rng.gamma(1) / 10,
        "kernel_tausq": rng.gamma(1) / 10,
        "_kernel_inv_length_sq": rng.gamma(1, size=6),
    }


@pytest.mark.parametrize("padding", [0, 3])
def test_density_and_gradient_are_those_of_botorchs_model(padding):
    x, y = make_data()
    theirs = SaasPyroModel()
    theirs.set_inputs(torch.as_tensor(x), torch.as_tensor(y).unsqueeze(-1))
    padded_x, padded_y = np.concatenate([x, np.ones((padding, 6))]), np.concatenate([y, np.ones(padding)])
    rows = np.arange(len(padded_x)) < len(x)

    @jax.jit
    @jax.value_and_grad
    def ours(params):
        return log_density(saas_model, (padded_x, padded_y, rows), {}, params)[0]

    @jax.jit
    @jax.value_and_grad
    def botorchs(params):
        return log_density(theirs.sample, (), {}, params)[0]

    for seed in range(3):
        (value, slope), (expected, expected_slope) = ours(settings(seed)), botorchs(settings(seed))
        assert float(value) == pytest.approx(float(expected), rel=1e-9)
        for name, part in expected_slope.items():
            assert np.asarray(slope[name]) == pytest.approx(np.asarray(part), rel=1e-6, abs=1e-9), name


@pytest.mark.slow
def test_samples_are_those_of_botorch_while_rounding_allows():
    x, y = make_data()
    ours, theirs = (module.fit_saas(x, y, seed=3, **FEW) for module in (saas, botorch_surrogate))
    torch.testing.assert_close(vars(ours), vars(theirs), rtol=0.02, atol=1e-4)
    assert vars(ours)["lengths"].shape == (2, 6)
    other = make_data(n=20, seed=5)
    fit_saas(*other, seed=4, **FEW)
    again = fit_saas(x, y, seed=3, **FEW)
    assert torch.equal(again.lengths, ours.lengths)
    assert not torch.equal(fit_saas(x, y, seed=5, **FEW).lengths, ours.lengths)
