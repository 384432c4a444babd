"""Successive halving: many candidates are trained briefly, the better ones longer."""

from __future__ import annotations

import math

from pydantic import Field

from prunepeft_baselines.candidates import CandidateSearch, best_first, first_candidates
from prunepeft_ray import Architecture, Config, InputError, MethodInfo, Problem, Steps, TrainResult


class HalvingOptions(Config):
    """Settings of successive halving."""

    eta: int = Field(
        3, ge=2, description="one in eta candidates is promoted to the next rung, which is eta times as long"
    )
    min_epochs: int | None = Field(
        None, ge=1, description="epochs of the first rung; default: those of a candidate in this study"
    )
    max_epochs: int | None = Field(
        None, ge=1, description="maximum epochs of a rung; default: those of the final retraining"
    )

    def rungs(self, problem: Problem, method: str) -> list[int]:
        """Return the epochs of every rung, shortest first.

        Args:
            problem: Provides the defaults.
            method: The method's name, for error messages.

        Raises:
            InputError: If the first rung would be longer than the longest.
        """
        shortest = self.min_epochs or problem.candidate.epochs
        longest = self.max_epochs or max(shortest, problem.spec.training.epochs)
        if shortest > longest:
            raise InputError(
                f"method '{method}': the first rung has {shortest} epochs, more than max_epochs={longest}: "
                "set min_epochs or a larger max_epochs"
            )
        return [shortest * self.eta**i for i in range(longest) if shortest * self.eta**i <= longest]


def halve(
    problem: Problem, architectures: list[Architecture], epochs: list[int], eta: int, label: str
) -> Steps[list[dict[Architecture, TrainResult]]]:
    """Train all candidates for the epochs of the first rung, the best of them for those of the next, and so on.

    One in ``eta`` is promoted, rounded down, but at least one if any has succeeded; failed candidates never are.

    Args:
        problem: Creates the work.
        architectures: The candidates, all distinct.
        epochs: The epochs of every rung, shortest first.
        eta: Inverse of the fraction that is promoted.
        label: Prefix of labels for progress displays.

    Returns:
        The results of every rung that was reached, by candidate, including failures.
    """
    rungs: list[dict[Architecture, TrainResult]] = []
    entrants = architectures
    for number, length in enumerate(epochs, 1):
        title = f"{label}, rung {number}/{len(epochs)}"
        work = [
            problem.candidate_work(a, f"{title}: {i}/{len(entrants)}", epochs=length) for i, a in enumerate(entrants, 1)
        ]
        results = yield tuple(work)
        rungs.append({piece.job.architecture: results[piece.job.id] for piece in work})
        values = {a: problem.value(result) for a, result in rungs[-1].items()}
        ranked = best_first(problem, {a: value for a, value in values.items() if math.isfinite(value)})
        entrants = ranked[: max(1, len(entrants) // eta)]
        if not entrants:
            break
    return rungs


def planned_jobs(candidates: int, rungs: int, eta: int) -> int:
    """Return the maximum number of jobs that :func:`halve` requests.

    Args:
        candidates: Number of candidates in the first rung.
        rungs: Number of rungs.
        eta: Inverse of the fraction that is promoted.
    """
    jobs = 0
    for _ in range(rungs):
        jobs += candidates
        candidates = max(1, candidates // eta)
    return jobs


def asha(problem: Problem, options: HalvingOptions) -> CandidateSearch:
    """Start as many random candidates as there are evaluations, and apply successive halving over epochs.

    Li et al. 2020 (ASHA) promote a candidate as soon as it is among the best 1/eta of those that have finished its rung
    so far. Promotions then depend on which job happens to finish first, and replaying the results could not restore the
    search. Here, a rung is completed before its best candidates are promoted, as in Jamieson and Talwalkar 2016: these
    are the promotions that the asynchronous rule approximates, and workers idle only at the end of a rung. Every rung
    trains from scratch, since the learning rate decays over its whole length, and is charged in full.

    Args:
        problem: The space, the budget and the number of evaluations.
        options: The rungs.

    Raises:
        InputError: If no slot fits the budget, or there is no rung.
    """
    epochs = options.rungs(problem, "asha")
    candidates = first_candidates(problem, problem.evaluations)
    planned = planned_jobs(len(candidates), len(epochs), options.eta)
    return CandidateSearch("asha", problem, _search(problem, candidates, epochs, options.eta), planned)


def _search(problem: Problem, candidates: list[Architecture], epochs: list[int], eta: int) -> Steps[None]:
    yield from halve(problem, candidates, epochs, eta, "halving")


ASHA = MethodInfo("random candidates with successive halving over epochs", asha, HalvingOptions)
