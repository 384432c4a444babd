import math

import numpy as np
import pytest
import torch
from bayes_toys import botorch_gp, botorch_saas, cube, make_data, some_hyperparameters
from botorch.acquisition import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective import logei
from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
from botorch.models import ModelList
from botorch.models.deterministic import GenericDeterministicModel
from botorch.sampling import SobolQMCNormalSampler
from botorch.sampling.index_sampler import IndexSampler
from botorch.sampling.list_sampler import ListSampler

from prunepeft_baselines.acquisition import SAMPLES, UNBOUNDED, Front, NoisyImprovement, on_front
from prunepeft_baselines.gaussian_process import GaussianProcess, Hyperparameters

REFERENCE = (-2.0, 1.5)
SEED = 7
CLEAR = -11.0
"""Below this logarithm next to no sample improves; there the tails differ."""


@pytest.fixture(autouse=True)
def without_kernel(monkeypatch):
    """Keep BoTorch from compiling a kernel."""
    monkeypatch.setattr(logei, "_load_attempted", True)


def cost(x):
    return x @ torch.linspace(0.2, 1, x.shape[-1], dtype=torch.float64) - 1


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def make(processes):
    x, y = (torch.as_tensor(part) for part in make_data())
    settings = some_hyperparameters(processes)
    model = (botorch_gp if processes == 1 else botorch_saas)(x, y, settings)
    return x, GaussianProcess(x, y, settings), model


def sampler():
    return SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=SEED)


def hypervolume(model, baseline, mixture):
    def objectives(samples, X):  # noqa: N803
        known = -cost(X).unsqueeze(-1)
        return torch.cat([samples, (known.unsqueeze(-3) if mixture else known).expand_as(samples)], -1)

    return logei.qLogNoisyExpectedHypervolumeImprovement(
        model,
        tensor(REFERENCE[0], -REFERENCE[1]),
        baseline,
        sampler=sampler(),
        objective=GenericMCMultiOutputObjective(objectives),
    )


def candidates():
    """All points that were not evaluated."""
    seen = {tuple(point) for point in make_data()[0]}
    return torch.as_tensor(np.array([point for point in cube() if tuple(point) not in seen]))


def assert_close(ours, theirs):
    clear = theirs > CLEAR
    assert clear.sum() > 8
    torch.testing.assert_close(ours[clear], theirs[clear], atol=2e-3, rtol=0)
    assert (ours[~clear] < CLEAR + 1).all()


@torch.no_grad()
@pytest.mark.parametrize("processes", [1, 3])
def test_the_gain_is_botorchs_noisy_expected_hypervolume_improvement(processes):
    x, process, model = make(processes)
    ours = NoisyImprovement(process, x, cost(x), REFERENCE, SEED)
    theirs = hypervolume(model, ours.points, processes > 1)
    points = candidates()
    assert_close(ours(points, cost(points)), theirs(points.unsqueeze(1)))
    # one more point is being evaluated
    best = points[ours(points, cost(points)).argmax()]
    pending = ours.with_pending(best, float(cost(best)))
    theirs.set_X_pending(best.unsqueeze(0))
    gains = pending(points, cost(points))
    assert_close(gains, theirs(points.unsqueeze(1)))
    assert gains.max() < ours(points, cost(points)).max()


@torch.no_grad()
def test_the_known_objective_counts_as_botorchs_deterministic_model_does():
    x, process, model = make(1)
    ours = NoisyImprovement(process, x, cost(x), REFERENCE, SEED)
    models = ModelList(model, GenericDeterministicModel(lambda x: -cost(x).unsqueeze(-1)))
    known = IndexSampler(torch.Size([SAMPLES]), seed=0)
    theirs = logei.qLogNoisyExpectedHypervolumeImprovement(
        models, tensor(REFERENCE[0], -REFERENCE[1]), ours.points, sampler=ListSampler(sampler(), known)
    )
    points = candidates()
    ours, theirs = ours(points, cost(points)), theirs(points.unsqueeze(1))
    # the samples are drawn otherwise, so values agree to the error of sampling
    clear = theirs > -6
    assert clear.sum() > 8
    assert (ours - theirs)[clear].abs().max() < 0.35
    assert (ours - theirs)[clear].mean().abs() < 0.05


@torch.no_grad()
@pytest.mark.parametrize("processes", [1, 3])
def test_without_cost_the_gain_is_botorchs_noisy_expected_improvement(processes):
    x, process, model = make(processes)
    ours = NoisyImprovement(process, x, torch.zeros(len(x), dtype=torch.float64), (UNBOUNDED, 1.0), SEED)
    theirs = qLogNoisyExpectedImprovement(model, ours.points, sampler=sampler(), prune_baseline=False)
    points = candidates()
    torch.testing.assert_close(
        ours(points, torch.zeros(len(points), dtype=torch.float64)), theirs(points.unsqueeze(1)), atol=2e-3, rtol=0
    )


def gains(values, costs, candidate_values, candidate_costs, reference=(0.0, 5.0)):
    """Gained areas of candidates over one sample of a front."""
    front = Front(tensor(*values).view(1, 1, -1), tensor(*costs), reference)
    return front.log_gain(tensor(*candidate_values).view(1, 1, -1), tensor(*candidate_costs)).exp().tolist()


def test_areas_worked_out_by_hand():
    # a front of 2 from cost 1 and 4 from cost 3, up to cost 5
    found = gains([4, 2], [3, 1], [3, 5, 5, 4, 1], [2, 0, 4, 0, 0.5])
    # 1 x 1; 5 + 2 x 3 + 2 x 1; 1 x 1; 4 + 2 x 2 and nothing more; 0.5 x 1
    assert found == pytest.approx([1, 13, 1, 8, 0.5], abs=1e-5)


def test_a_candidate_that_the_front_beats_gains_next_to_nothing_but_more_if_nearer():
    far, near = gains([4], [1], [1, 3], [2, 2])
    assert 0 < far < near < 1e-12


def test_a_candidate_beyond_the_reference_cost_gains_nothing_at_all():
    assert gains([4], [1], [9, 9], [5, 6]) == [0, 0]


def test_what_is_below_the_reference_value_does_not_count():
    # only the part of a value above 3 counts, and the front below 3 does not
    assert gains([2], [1], [5], [0], reference=(3.0, 5.0)) == pytest.approx([10], abs=1e-5)


def test_areas_do_not_depend_on_the_order_of_the_front():
    assert gains([2, 4, 1], [1, 3, 2], [5], [0]) == gains([4, 1, 2], [3, 2, 1], [5], [0])


@torch.no_grad()
def test_of_points_known_well_exactly_the_pareto_front_is_kept():
    x = torch.eye(5, dtype=torch.float64)
    y, costs = tensor(1, 0.5, 2, 1.5, 3), tensor(1, 2, 3, 4, 9)
    one = torch.ones(1, dtype=torch.float64)
    process = GaussianProcess(x, y, Hyperparameters(torch.full((1, 5), 0.3, dtype=torch.float64), one, one, one * 1e-4))
    assert on_front(process, x, costs, (-5, 5), SEED).tolist() == [True, False, True, False, False]
    assert on_front(process, x, costs, (1.5, 5), SEED).tolist() == [False, False, True, False, False]
    # nothing counts: the best stays
    assert on_front(process, x, costs, (9, 5), SEED).tolist() == [False, False, False, False, True]


@torch.no_grad()
def test_values_do_not_depend_on_what_is_evaluated_beside_them():
    x, process, _ = make(3)
    gain = NoisyImprovement(process, x, cost(x), REFERENCE, SEED)
    points = candidates().repeat(10, 1)
    together = gain(points, cost(points))
    alone = torch.cat([gain(point.unsqueeze(0), cost(point.unsqueeze(0))) for point in points[:8]])
    torch.testing.assert_close(together[:8], alone)
    assert math.isfinite(float(together.max()))
