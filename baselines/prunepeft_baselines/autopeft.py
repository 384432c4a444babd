"""AutoPEFT: multi-objective Bayesian optimisation of PEFT architectures (Zhou et al., TACL 2024)."""

from __future__ import annotations

import random
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from prunepeft_baselines.autopeft_space import AlignedCoding, Code, Coding, OwnCoding
from prunepeft_baselines.candidates import CandidateSearch, first_candidates
from prunepeft_ray import Architecture, Config, InputError, MethodInfo, Problem, Steps, derive_seed, pareto_front

if TYPE_CHECKING:
    from prunepeft_baselines.autopeft_search import Proposer


class AutoPEFTOptions(Config):
    """Settings of AutoPEFT."""

    space: Literal["aligned", "autopeft"] = Field(
        "aligned",
        description="aligned: the slots that all methods share; autopeft: its own sizes and switches for whole layers",
    )
    surrogate: Literal["saas", "gp"] = Field("saas", description="fully Bayesian SAAS GP or plain Matern-5/2 GP")
    arithmetic: Literal["botorch", "closed-form"] = Field(
        "botorch", description="what fits the surrogate: BoTorch, or the same model with gradients in closed form"
    )
    objectives: Literal["pareto", "single"] = Field(
        "pareto", description="pareto: the metric and the number of parameters; single: the metric only"
    )
    batch: int = Field(4, ge=1, description="candidates proposed together, q")
    initial: int | None = Field(None, ge=1, description="number of initial random candidates; default: half of all")

    def design(self, evaluations: int) -> int:
        """Return the size of the initial design for a total number of evaluations."""
        return min(evaluations, self.initial or max(2, evaluations // 2))

    def coding(self, problem: Problem) -> Coding:
        """Return the encoding of the space.

        Raises:
            InputError: If no architecture in it fits the budget.
        """
        if self.space == "aligned":
            return AlignedCoding(problem)
        return OwnCoding(problem, bounded=self.objectives == "single")


class AutoPEFT(CandidateSearch):
    """AutoPEFT as an ask/tell method.

    Args:
        problem: The space, the budget and the number of evaluations.
        options: Its settings.
        proposer: Proposes batches.
    """

    def __init__(self, problem: Problem, options: AutoPEFTOptions, proposer: Proposer) -> None:
        super().__init__("autopeft", problem, _search(problem, options, proposer), problem.evaluations)

    def pareto(self) -> list[Architecture]:
        """Return the Pareto front of metric and parameters within the budget, smallest first.

        AutoPEFT retrains all of these; a study only retrains :meth:`best`.
        """
        within = sorted(
            (t for t in self.observations if self._problem.fits(t.architecture)), key=lambda t: t.architecture.id
        )
        return pareto_front({t.architecture: t.value for t in within}, self._problem.parameters)


def autopeft(problem: Problem, options: AutoPEFTOptions) -> AutoPEFT:
    """Evaluate random architectures, then batches with the largest gain expected by a surrogate model.

    Args:
        problem: The space, the budget and the number of evaluations.
        options: Space, surrogate and sizes.

    Raises:
        InputError: If an optional package is missing or no architecture in the space fits the budget.
    """
    return AutoPEFT(problem, options, make_proposer("autopeft", problem, options))


def make_proposer(method: str, problem: Problem, options: AutoPEFTOptions) -> Proposer:
    """Build the proposer of batches.

    Args:
        method: The method's name, for error messages.
        problem: Space, budget and seed.
        options: Space, surrogate and objectives.

    Raises:
        InputError: If an optional package is missing or no architecture in the space fits the budget.
    """
    needed = {"botorch": "BoTorch"} | ({"numpyro": "NumPyro", "jax": "JAX"} if options.surrogate == "saas" else {})
    for package, title in needed.items():
        if find_spec(package) is None:
            raise InputError(f"method '{method}' needs {title}: pip install 'prunepeft-ray[bayes]'")
    from prunepeft_baselines.autopeft_search import Proposer, choose_fit

    seed = derive_seed(problem.seed, "autopeft")
    return Proposer(options.coding(problem), choose_fit(options), options.objectives, seed)


def initial_design(problem: Problem, coding: Coding, n: int) -> list[Code]:
    """Draw the initial candidates; in the shared space, these are the same as in other searches.

    Args:
        problem: The space, the budget and the seed.
        coding: The encoding of the space.
        n: Number of candidates; fewer are returned if there are not enough.
    """
    if isinstance(coding, AlignedCoding):
        return [coding.code(architecture) for architecture in first_candidates(problem, n)]
    return coding.initial(n, random.Random(derive_seed(problem.seed, "autopeft", "initial design")))


def evaluate_proposals(
    problem: Problem, options: AutoPEFTOptions, proposer: Proposer, epochs: int | None = None
) -> Steps[list[Architecture]]:
    """Evaluate the initial design, then one batch of proposals after another.

    Args:
        problem: Creates the work, and sets the number of evaluations.
        options: Sizes of the initial design and of a batch.
        proposer: Proposes batches.
        epochs: Number of epochs; default: that of the study.

    Returns:
        All candidates, in the order in which they were requested.
    """
    values: dict[Code, float] = {}
    total, coding = problem.evaluations, proposer.coding
    initial = options.design(total)
    batch = initial_design(problem, coding, initial)
    while batch:
        work = {
            code: problem.candidate_work(
                coding.architecture(code), f"candidate {len(values) + i}/{total}", epochs=epochs
            )
            for i, code in enumerate(batch, 1)
        }
        results = yield tuple(work.values())
        values |= {code: problem.value(results[piece.job.id]) for code, piece in work.items()}
        count = min(options.batch, total - len(values))
        batch = proposer.propose(values, initial, count) if count else []
    return [coding.architecture(code) for code in values]


def _search(problem: Problem, options: AutoPEFTOptions, proposer: Proposer) -> Steps[None]:
    yield from evaluate_proposals(problem, options, proposer)


AUTOPEFT = MethodInfo("multi-objective Bayesian optimisation (Zhou et al. 2024)", autopeft, AutoPEFTOptions)
