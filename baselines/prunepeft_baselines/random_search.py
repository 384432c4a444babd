"""Random search: the baseline that every search must beat (Bergstra and Bengio 2012; Li and Talwalkar 2019)."""

from __future__ import annotations

from prunepeft_baselines.candidates import CandidateSearch, first_candidates
from prunepeft_ray import Architecture, MethodInfo, NoOptions, Problem, Steps


def random_search(problem: Problem, _options: NoOptions) -> CandidateSearch:
    """Evaluate distinct architectures, drawn uniformly among those within the budget, and keep the best.

    Args:
        problem: The space, the budget and the number of evaluations.

    Raises:
        InputError: If no slot fits the budget.
    """
    candidates = first_candidates(problem, problem.evaluations)
    return CandidateSearch("random-search", problem, _evaluate(problem, candidates), len(candidates))


def _evaluate(problem: Problem, candidates: list[Architecture]) -> Steps[None]:
    total = len(candidates)
    yield tuple(problem.candidate_work(a, f"candidate {i}/{total}") for i, a in enumerate(candidates, 1))


RANDOM_SEARCH = MethodInfo("random search: the best on dev of uniformly drawn architectures", random_search)
