"""AutoPEFT's proposals, evaluated by successive halving: cheap looks at most candidates, long ones at the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.autopeft import AutoPEFTOptions, initial_design, make_proposer
from baselines.autopeft_space import Code
from baselines.candidates import CandidateSearch
from baselines.successive_halving import HalvingOptions, halve, planned_jobs
from prunepeft_ray import MethodInfo, Problem, Steps

if TYPE_CHECKING:
    from baselines.autopeft_search import Proposer

NAME = "autopeft-asha"


class AutoPEFTAshaOptions(AutoPEFTOptions, HalvingOptions):
    """Settings of AutoPEFT and of successive halving."""


def autopeft_asha(problem: Problem, options: AutoPEFTAshaOptions) -> CandidateSearch:
    """Let every batch, the initial design first, go through successive halving over epochs.

    The surrogate learns from the first rung, which all candidates have in common; the answer is the best of those that
    were trained longest. As in ``asha``, promotions are synchronous and every rung trains from scratch.

    Args:
        problem: The space, the budget and the number of candidates.
        options: Space, surrogate, sizes and rungs.

    Raises:
        InputError: If an optional package is missing, nothing in the space fits the budget, or there is no rung.
    """
    epochs = options.rungs(problem, NAME)
    proposer = make_proposer(NAME, problem, options)
    total, initial = problem.evaluations, options.design(problem.evaluations)
    whole, rest = divmod(total - initial, options.batch)
    sizes = [initial, *[options.batch] * whole, *([rest] if rest else [])]
    planned = sum(planned_jobs(size, len(epochs), options.eta) for size in sizes)
    return CandidateSearch(NAME, problem, _search(problem, options, proposer, epochs), planned)


def _search(problem: Problem, options: AutoPEFTAshaOptions, proposer: Proposer, epochs: list[int]) -> Steps[None]:
    values: dict[Code, float] = {}
    total, coding = problem.evaluations, proposer.coding
    initial = options.design(total)
    batch = initial_design(problem, coding, initial)
    while batch:
        architectures = {code: coding.architecture(code) for code in batch}
        label = f"candidates {len(values) + 1}-{len(values) + len(batch)} of {total}"
        rungs = yield from halve(problem, list(architectures.values()), epochs, options.eta, label)
        values |= {code: problem.value(rungs[0][architecture]) for code, architecture in architectures.items()}
        count = min(options.batch, total - len(values))
        batch = proposer.propose(values, initial, count) if count else []


AUTOPEFT_ASHA = MethodInfo(
    "AutoPEFT's proposals, evaluated by successive halving over epochs", autopeft_asha, AutoPEFTAshaOptions
)
