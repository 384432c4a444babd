"""Logarithmic noisy expected hypervolume improvement for two objectives, one of which is known exactly."""

from __future__ import annotations

import torch
from botorch.utils.sampling import draw_sobol_normal_samples
from torch import Tensor

from prunepeft_baselines.gaussian_process import GaussianProcess, root

SAMPLES = 128
PRUNING_SAMPLES = 1024
TEMPERATURE = 1e-6
TAIL_SHARE = 0.1
CHUNK = 256
UNBOUNDED = -1e9
"""A reference value below any other value."""


class NoisyImprovement:
    """The logarithm of the expected gain in dominated area from evaluating one more point.

    This is the noisy expected hypervolume improvement (Daulton et al. 2021), with a fat tail instead of zero where no
    sample improves (Ament et al. 2023), which gives a local search a direction. It agrees to 0.2 % with BoTorch's
    ``qLogNoisyExpectedHypervolumeImprovement`` with a pruned baseline and earlier points of the batch pending. As the
    cost is known, the fronts of all samples have their steps at the same costs. The gained area is then a difference of
    two tabulated integrals of the front rather than a sum over boxes, so its computing time does not grow with the
    front. BoTorch's class takes minutes for a point of SAAS and compiles C++ at first use, with no public setting
    against that.

    With zero costs and an unbounded reference value, this is the (log) noisy expected improvement.

    Args:
        process: The posterior of the uncertain objective, which is maximised.
        points: Evaluated and pending points, n x d.
        costs: The known objective at these points, which is minimised, n.
        reference: Minimum value and maximum cost that count.
        seed: Seed of the normal samples.
        pruned: Whether points that are unlikely to be on the front have already been removed.
    """

    def __init__(
        self,
        process: GaussianProcess,
        points: Tensor,
        costs: Tensor,
        reference: tuple[float, float],
        seed: int,
        pruned: bool = False,
    ) -> None:
        self._process = process
        self._reference = reference
        self._seed = seed
        if not pruned:
            kept = on_front(process, points, costs, reference, seed)
            points, costs = points[kept], costs[kept]
        self.points, self.costs = points, costs
        mean, self._white = process.project(points)
        self._root = root(process.covariance(points, self._white, points, self._white))
        count = len(points)
        self._normal = _normal(count, SAMPLES, seed)
        self._next_normal = _normal(count + 1, SAMPLES, seed)[:, -1]
        # samples x processes x points
        self._front = Front(mean + torch.einsum("hij,sj->shi", self._root, self._normal), costs, reference)

    def with_pending(self, point: Tensor, cost: float) -> NoisyImprovement:
        """Return the acquisition function given another pending point, of shape d, and its cost."""
        points = torch.cat([self.points, point.unsqueeze(0)])
        costs = torch.cat([self.costs, self.costs.new_tensor([cost])])
        return NoisyImprovement(self._process, points, costs, self._reference, self._seed, pruned=True)

    def __call__(self, points: Tensor, costs: Tensor) -> Tensor:
        """Evaluate candidates individually.

        Args:
            points: Points, m x d.
            costs: Their costs, m.

        Returns:
            The logarithms of the gains, m; minus infinity where the cost is not below the reference.
        """
        parts = zip(torch.split(points, CHUNK), torch.split(costs, CHUNK), strict=True)
        return torch.cat([self._front.log_gain(self._sample(part), cost) for part, cost in parts])

    def _sample(self, points: Tensor) -> Tensor:
        """Draw samples of the candidates, each jointly with the samples of the front."""
        mean, white = self._process.project(points)
        shared = self._process.covariance(self.points, self._white, points, white)
        shared = torch.linalg.solve_triangular(self._root, shared, upper=False)
        scale = self._process.hyperparameters.scale.unsqueeze(-1)
        spread = (scale - white.square().sum(-2) - shared.square().sum(-2)).clamp_min(0).sqrt()
        joint = mean + torch.einsum("sb,hbm->shm", self._normal, shared)
        samples: Tensor = joint + self._next_normal[:, None, None] * spread
        return samples


class Front:
    """The best value as a function of cost for every sample: a step function with steps at the baseline's costs.

    Args:
        samples: Values at the baseline, s x h x b.
        costs: Costs of the baseline, b.
        reference: Minimum value and maximum cost that count.
    """

    def __init__(self, samples: Tensor, costs: Tensor, reference: tuple[float, float]) -> None:
        value, self._highest = reference
        samples, costs = _by_cost(samples, costs)
        edges = torch.cat([costs, costs.new_tensor([self._highest])]).clamp_max(self._highest)
        lowest = samples.new_full((*samples.shape[:-1], 1), value)
        # heights[j] applies between edges j - 1 and j; below the first edge, only the reference applies
        self._heights = torch.cat([lowest, samples], -1).cummax(-1).values.contiguous()
        self._edges = edges
        areas = self._heights[..., 1:] * edges.diff()
        # area under the steps from the first edge up to each edge
        self._areas = torch.cat([torch.zeros_like(lowest), areas.cumsum(-1)], -1)

    def log_gain(self, values: Tensor, costs: Tensor) -> Tensor:
        """Return the logarithm of the mean area that each candidate adds.

        Args:
            values: Samples of the candidates' values, s x h x m.
            costs: Their costs, m.
        """
        step = torch.searchsorted(self._edges[:-1], costs, right=True)
        start = self._edges[(step - 1).clamp_min(0)]
        height = self._heights[..., step]
        before = self._areas[..., (step - 1).clamp_min(0)] + height * (costs - start)
        # the candidate's value exceeds the front from its cost up to the first step that is at least as high
        passed = torch.searchsorted(self._heights, values.contiguous()) - 1
        end = passed.clamp_min(0)
        width = (self._edges[end] - costs).clamp_min(0)
        gain = values * width - (self._areas.gather(-1, end) - before)
        gain = torch.where((passed >= 0) & (width > 0), gain.clamp_min(0), 0.0)
        gap = (height - values).clamp_min(0) / TEMPERATURE
        room = (self._highest - costs).clamp_min(0)
        tail = TEMPERATURE * TAIL_SHARE * room / (1 + gap.square())
        return (gain + tail).mean((0, 1)).log()


def on_front(
    process: GaussianProcess, points: Tensor, costs: Tensor, reference: tuple[float, float], seed: int
) -> Tensor:
    """Find the points that are on the Pareto front in some sample of the posterior.

    Args:
        process: The posterior of the objective that is maximised.
        points: Points, n x d.
        costs: Their costs, n.
        reference: Minimum value and maximum cost that count.
        seed: Seed of the samples.

    Returns:
        A mask, n; if no point is on the front, the one with the best mean is kept.
    """
    mean, covariance = process.posterior(points)
    normal = _normal(len(points), PRUNING_SAMPLES, seed)
    samples, _ = _by_cost(mean + torch.einsum("hij,sj->shi", root(covariance), normal), costs)
    lowest = samples.new_full((*samples.shape[:-1], 1), reference[0])
    best_before = torch.cat([lowest, samples], -1).cummax(-1).values[..., :-1]
    kept = torch.empty_like(costs, dtype=torch.bool)
    kept[torch.argsort(costs, stable=True)] = (samples > best_before).any(0).any(0)
    kept &= costs < reference[1]
    if not kept.any():
        kept[mean.mean(0).argmax()] = True
    return kept


def _by_cost(samples: Tensor, costs: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.argsort(costs, stable=True)
    return samples[..., order], costs[order]


def _normal(dimensions: int, count: int, seed: int) -> Tensor:
    """Draw quasi-random standard normal samples, count x dimensions."""
    samples: Tensor = draw_sobol_normal_samples(dimensions, count, dtype=torch.float64, seed=seed)
    return samples
