"""How long AutoPEFT takes to propose the next batch of four with 200 candidates evaluated, of 12 layers in two kinds.

Its surrogate is fitted by BoTorch, the default, and in closed form. The peer is BoTorch alone at the reference
settings: ``SaasFullyBayesianSingleTaskGP`` with 128 warm-up steps, 64 samples and thinning 4 (or a Matern-5/2
``SingleTaskGP``), ``qLogNoisyExpectedHypervolumeImprovement`` with the baseline pruned, optimised by
``optimize_acqf_discrete_local_search`` from ten starts. As that takes minutes for every point with SAAS, by default
the peer fits its model and proposes a single point; ``--points 4`` has it propose as many as we do.
"""

import random
import sys
import time
import warnings

import torch
from rich.console import Console
from rich.table import Table

from prunepeft_baselines.autopeft import AutoPEFTOptions, make_proposer
from prunepeft_baselines.autopeft_search import Proposer
from prunepeft_baselines.copula import GaussianCopula
from prunepeft_ray import Architecture, Module, ModuleCost, Problem, Slot, Space, TrainJob, load_spec

LAYERS, EVALUATED, BATCH, STARTS = 12, 200, 4, 10
SETTINGS = [(surrogate, arithmetic) for surrogate in ("gp", "saas") for arithmetic in ("botorch", "closed-form")]


def main(points: int = 1) -> None:
    warnings.filterwarnings("ignore")
    evaluated = evaluate(make_proposer("autopeft", make_problem(), AutoPEFTOptions(surrogate="gp")))
    title = f"a batch of {BATCH} with {EVALUATED} evaluated; peer: BoTorch alone, {points} of {BATCH} points"
    columns = ("surrogate", "arithmetic", "first batch s", "next batch s", "peer s", "ratio next/peer")
    table = Table(*columns, title=title)
    peers: dict[str, float] = {}
    for surrogate, arithmetic in SETTINGS:
        options = AutoPEFTOptions(surrogate=surrogate, arithmetic=arithmetic)
        proposer = make_proposer("autopeft", make_problem(), options)
        first, following = (propose(proposer, values) for values in (evaluated, without_last(evaluated)))
        if surrogate not in peers:
            peers[surrogate] = propose_by_botorch(proposer, evaluated, points, mixture=surrogate == "saas")
        peer = peers[surrogate]
        table.add_row(
            surrogate, arithmetic, f"{first:.1f}", f"{following:.1f}", f"{peer:.1f}", f"{following / peer:.2f}"
        )
    Console().print(table)


def make_problem() -> Problem:
    """A problem with 24 slots of two sizes, a budget of half their parameters, and nothing to train."""
    slots = [Slot(layer, kind) for layer in range(LAYERS) for kind in ("PA", "SA")]
    supernet = Architecture.of({slot: Module("lora" if slot.kind == "PA" else "pfeiffer", 8) for slot in slots})
    space = Space(LAYERS, supernet, {slot: ModuleCost(768 if slot.kind == "PA" else 1536) for slot in slots})
    spec = load_spec(None, {"model": "m", "task": "t", "budget": "1"})
    template = TrainJob("m", "m", "t", "t", "accuracy", supernet, spec.modules, spec.training, seed=0)
    budget = space.parameters(supernet) // 2
    return Problem(spec, space, budget, template, 768, lambda slot, _type: space.costs[slot], evaluations=EVALUATED)


def evaluate(proposer: Proposer) -> dict[tuple[int, ...], float]:
    """Codes with a noisy metric that some slots raise more than others."""
    rng = random.Random(0)
    worth = [rng.random() ** 3 for _ in proposer.coding.choices]
    codes = proposer.coding.unseen(EVALUATED, rng, ())
    return {code: sum(w for w, on in zip(worth, code, strict=True) if on) + rng.gauss(0, 0.1) for code in codes}


def without_last(evaluated: dict[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
    return dict(list(evaluated.items())[:-1])


def propose(proposer: Proposer, values: dict[tuple[int, ...], float]) -> float:
    started = time.monotonic()
    proposer.propose(values, EVALUATED // 2, BATCH)
    return time.monotonic() - started


def propose_by_botorch(
    proposer: Proposer, evaluated: dict[tuple[int, ...], float], points: int, mixture: bool
) -> float:
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
    from botorch.optim import optimize_acqf_discrete_local_search

    coding, codes = proposer.coding, list(evaluated)
    x = torch.tensor([coding.unit(code) for code in codes], dtype=torch.float64)
    costs = torch.tensor([coding.parameters(code) for code in unit_codes(x.shape[1])], dtype=torch.float64)
    y = torch.as_tensor(GaussianCopula(list(evaluated.values()))(list(evaluated.values()))).unsqueeze(-1)
    budget = float(coding.problem.budget)

    def objectives(samples: torch.Tensor, X: torch.Tensor) -> torch.Tensor:  # noqa: N803
        known = (1 - X @ costs / budget).unsqueeze(-1)
        return torch.cat([samples, (known.unsqueeze(-3) if mixture else known).expand_as(samples)], -1)

    load_kernel()
    torch.manual_seed(0)
    started = time.monotonic()
    acquisition = qLogNoisyExpectedHypervolumeImprovement(
        fit_by_botorch(x, y, mixture),
        torch.tensor([-3.8, -0.1], dtype=torch.float64),
        x,
        objective=GenericMCMultiOutputObjective(objectives),
        prune_baseline=True,
        marginalize_dim=-3 if mixture else None,
    )
    optimize_acqf_discrete_local_search(
        acquisition,
        [torch.tensor([0.0, 1.0], dtype=torch.float64)] * x.shape[1],
        q=points,
        num_restarts=STARTS,
        raw_samples=8 * STARTS,
        inequality_constraints=[(torch.arange(x.shape[1]), -costs, -budget)],
        X_avoid=x,
        max_batch_size=64,
        return_acq_values=False,
    )
    return time.monotonic() - started


def unit_codes(dimensions: int) -> list[tuple[int, ...]]:
    return [tuple(int(i == j) for j in range(dimensions)) for i in range(dimensions)]


def fit_by_botorch(x: torch.Tensor, y: torch.Tensor, mixture: bool) -> object:
    from botorch.fit import fit_fully_bayesian_model_nuts, fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
    from gpytorch.mlls import ExactMarginalLogLikelihood

    if mixture:
        model = SaasFullyBayesianSingleTaskGP(x, y)
        fit_fully_bayesian_model_nuts(model, warmup_steps=128, num_samples=64, thinning=4, disable_progbar=True)
        return model
    kernel = get_covar_module_with_dim_scaled_prior(x.shape[1], use_rbf_kernel=False)
    model = SingleTaskGP(x, y, covar_module=kernel, outcome_transform=None)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


def load_kernel() -> None:
    """Let BoTorch compile its kernel, if it can, before anything is timed."""
    from botorch.acquisition.multi_objective import logei

    logei._try_load_fused_kernel()


if __name__ == "__main__":
    main(*map(int, sys.argv[2:])) if sys.argv[1:2] == ["--points"] else main()
