"""AutoPEFT's proposals: the next batch of candidates from those evaluated so far."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from prunepeft_baselines.acquisition import UNBOUNDED, NoisyImprovement
from prunepeft_baselines.autopeft_space import Code, Coding
from prunepeft_baselines.copula import GaussianCopula
from prunepeft_baselines.gaussian_process import Floats, GaussianProcess, Hyperparameters, fit_map
from prunepeft_ray import derive_seed, pareto_front

if TYPE_CHECKING:
    from prunepeft_baselines.autopeft import AutoPEFTOptions

Fit = Callable[[Floats, Floats, int], Hyperparameters]
"""Fits a surrogate to points, n x d, and their values, n, with a seed."""

STARTS = 10
EVALUATIONS = 2000
MARGIN = 0.1


@dataclass(frozen=True)
class Proposer:
    """Proposes batches by Bayesian optimisation (Zhou et al. 2024, Section 4).

    Args:
        coding: The space.
        fit: Fits the surrogate.
        objectives: ``"pareto"``: the metric and the number of parameters; ``"single"``: the metric alone.
        seed: Seed from which all randomness is derived.
    """

    coding: Coding
    fit: Fit
    objectives: Literal["pareto", "single"]
    seed: int

    def propose(self, values: Mapping[Code, float], initial: int, count: int) -> list[Code]:
        """Propose candidates that have not been evaluated, each taking the previous ones into account.

        Args:
            values: The metric of each evaluated candidate, in order; minus infinity for failed ones.
            initial: Size of the initial design, which determines the reference point.
            count: Number of proposals; fewer are returned if the space seems to be exhausted.
        """
        rng = random.Random(derive_seed(self.seed, "proposals", len(values)))
        succeeded = [value for value in values.values() if math.isfinite(value)]
        if len(set(succeeded)) < 2:
            return self.coding.unseen(count, rng, values)
        with torch.no_grad():
            return self._optimise(values, initial, count, rng)

    def _optimise(self, values: Mapping[Code, float], initial: int, count: int, rng: random.Random) -> list[Code]:
        view = _View.of(self.coding, self.objectives, values, initial)
        codes = list(values)
        points = view.points(codes)
        fitted = self.fit(points.numpy(), view.metric, derive_seed(self.seed, "surrogate", len(values)))
        process = GaussianProcess(points, torch.as_tensor(view.metric), fitted)
        seed = derive_seed(self.seed, "acquisition", len(values))
        gain = NoisyImprovement(process, points, view.costs(codes), view.reference, seed)
        front = pareto_front(values, self.coding.parameters) if self.objectives == "pareto" else _best(values)
        proposed: list[Code] = []
        for _ in range(count):
            seen = values.keys() | set(proposed)
            code = local_search(self.coding, partial(view.gains, gain), front, seen, rng)
            found = [code] if code else self.coding.unseen(1, rng, seen)
            if not found:
                break
            proposed += found
            gain = gain.with_pending(view.points(found)[0], float(view.costs(found)[0]))
        return proposed


def choose_fit(options: AutoPEFTOptions) -> Fit:
    """Return what fits the surrogate that the options ask for."""
    if options.arithmetic == "botorch":
        from prunepeft_baselines import botorch_surrogate

        return botorch_surrogate.fit_saas if options.surrogate == "saas" else botorch_surrogate.fit_gp
    if options.surrogate == "saas":
        from prunepeft_baselines.saas import fit_saas

        return fit_saas
    return lambda x, y, _seed: fit_map(x, y)


@dataclass(frozen=True)
class _View:
    """The objectives as seen by surrogate and acquisition function, both transformed by copulas.

    The cost is the negated copula of the negative number of parameters: the maximised objectives are always the metric
    and the negative number of parameters, including in the transformation of the reference point.
    """

    coding: Coding
    metric: Floats
    reference: tuple[float, float]
    saving: GaussianCopula | None

    @classmethod
    def of(cls, coding: Coding, objectives: str, values: Mapping[Code, float], initial: int) -> _View:
        worst = min(value for value in values.values() if math.isfinite(value))
        metric = [value if math.isfinite(value) else worst for value in values.values()]
        quality = GaussianCopula(metric)
        if objectives == "single":
            return cls(coding, quality(metric), (UNBOUNDED, 1.0), None)
        savings = -np.array([coding.parameters(code) for code in values], dtype=np.float64)
        saving = GaussianCopula(savings)
        least, last = reference_point(list(values.values()), savings, initial)
        return cls(coding, quality(metric), (float(quality(least)), -float(saving(last))), saving)

    def points(self, codes: Sequence[Code]) -> Tensor:
        return torch.tensor([self.coding.unit(code) for code in codes], dtype=torch.float64)

    def costs(self, codes: Sequence[Code]) -> Tensor:
        if self.saving is None:
            return torch.zeros(len(codes), dtype=torch.float64)
        return torch.as_tensor(-self.saving([-self.coding.parameters(code) for code in codes]))

    def gains(self, gain: NoisyImprovement, codes: Sequence[Code]) -> list[float]:
        values: list[float] = gain(self.points(codes), self.costs(codes)).tolist()
        return values


def reference_point(values: Sequence[float], savings: Floats, initial: int) -> tuple[float, float]:
    """Infer the reference point, which candidates must dominate to count.

    AutoPEFT sets it by hand to a metric of 0.7 and 26 % of the parameters. Here, in both objectives, it lies a tenth of
    the range below the worst of the initial design (Ishibuchi et al. 2011), and so remains fixed. Both objectives are
    maximised.

    Args:
        values: The metric of each evaluated candidate, in order; minus infinity for failed ones.
        savings: The negative numbers of parameters.
        initial: Size of the initial design; if all of it failed, all successful candidates are used.
    """
    design = [v for v in values[:initial] if math.isfinite(v)] or [v for v in values if math.isfinite(v)]
    return _below(np.array(design)), _below(savings[:initial])


def _below(values: Floats) -> float:
    worst = float(values.min())
    return worst - MARGIN * (float(np.ptp(values)) or abs(worst) or 1.0)


def _best(values: Mapping[Code, float]) -> list[Code]:
    return sorted(values, key=lambda code: -values[code])[:STARTS]


def local_search(
    coding: Coding,
    gains: Callable[[Sequence[Code]], list[float]],
    front: Sequence[Code],
    seen: Collection[Code],
    rng: random.Random,
) -> Code | None:
    """Find the code with the largest gain by hill climbing from ten starting points in parallel.

    The starting points come from the front, supplemented by random codes. The front has already been evaluated, so a
    climb always moves on to the best neighbour. All neighbours of a step are evaluated together, no code twice, and at
    most 2,000 in total.

    Args:
        coding: The space.
        gains: Computes the gains of codes.
        front: Codes to start from.
        seen: Valid codes that must not be proposed.
        rng: The source of randomness for starting points and neighbours.

    Returns:
        The best code found; None if there is none with any gain.
    """
    starts = list(front) if len(front) <= STARTS else rng.sample(list(front), STARTS)
    starts += coding.unseen(STARTS - len(starts), rng, seen)
    known: dict[Code, float] = {}
    climbs = [(start, -math.inf) for start in starts]
    while climbs and len(known) < EVALUATIONS:
        steps = [[n for n in coding.neighbours(code, rng) if n not in seen] for code, _ in climbs]
        fresh = list(dict.fromkeys(n for near in steps for n in near if n not in known))[: EVALUATIONS - len(known)]
        known |= zip(fresh, gains(fresh), strict=True) if fresh else ()
        tops = [max(((known[n], n) for n in near if n in known), default=(-math.inf, ())) for near in steps]
        climbs = [(code, top) for (top, code), (_, height) in zip(tops, climbs, strict=True) if top > height]
        climbs = list(dict.fromkeys(climbs))
    gain, code = max(((gain, code) for code, gain in known.items()), default=(-math.inf, ()))
    return code if gain > -math.inf else None
