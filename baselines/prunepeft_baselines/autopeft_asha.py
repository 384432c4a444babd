"""AutoPEFT's proposals with successive halving: many are trained briefly, the better ones longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_baselines.autopeft import AutoPEFTOptions, evaluate_proposals, make_proposer
from prunepeft_baselines.candidates import CandidateSearch
from prunepeft_baselines.successive_halving import HalvingOptions, halve, planned_jobs
from prunepeft_ray import MethodInfo, Problem, Steps

if TYPE_CHECKING:
    from prunepeft_baselines.autopeft_search import Proposer


class AutoPEFTAshaOptions(AutoPEFTOptions, HalvingOptions):
    """Settings of AutoPEFT with successive halving: those of both."""


def autopeft_asha(problem: Problem, options: AutoPEFTAshaOptions) -> CandidateSearch:
    """Propose as many candidates as there are evaluations, and apply successive halving to those within budget.

    The surrogate learns from the first rung, in which all candidates are trained, so its observations are comparable.
    The later rungs are those of ``asha``.

    Args:
        problem: The space, the budget and the number of evaluations.
        options: Space, surrogate, sizes and rungs.

    Raises:
        InputError: If an optional package is missing, nothing fits the budget, or there is no rung.
    """
    epochs = options.rungs(problem, "autopeft-asha")
    proposer = make_proposer("autopeft-asha", problem, options)
    planned = planned_jobs(problem.evaluations, len(epochs), options.eta)
    return CandidateSearch("autopeft-asha", problem, _search(problem, options, proposer, epochs), planned)


def _search(problem: Problem, options: AutoPEFTAshaOptions, proposer: Proposer, epochs: list[int]) -> Steps[None]:
    candidates = yield from evaluate_proposals(problem, options, proposer, epochs[0])
    # the first rung requests the same jobs again, and gets their existing results
    yield from halve(problem, [a for a in candidates if problem.fits(a)], epochs, options.eta, "halving")


AUTOPEFT_ASHA = MethodInfo(
    "AutoPEFT's proposals with successive halving over epochs", autopeft_asha, AutoPEFTAshaOptions
)
