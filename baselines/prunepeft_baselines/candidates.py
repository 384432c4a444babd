"""Shared parts of methods that train candidate architectures and keep the best."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from prunepeft_baselines.sampling import FeasibleSampler
from prunepeft_ray import (
    Architecture,
    GeneratorMethod,
    Problem,
    RunError,
    Steps,
    TrainJob,
    TrainResult,
    derive_seed,
)


@dataclass(frozen=True)
class Observation:
    """The reported result of a candidate.

    Args:
        architecture: The candidate.
        fidelity: Training examples (infinite: the whole split) and epochs; larger is closer to the final retraining.
        value: The primary metric on dev, larger is better; minus infinity if the job failed.
        reason: Why the job failed.
    """

    architecture: Architecture
    fidelity: tuple[float, int]
    value: float
    reason: str = ""


class CandidateSearch(GeneratorMethod):
    """A search that evaluates candidates and returns the best of them; failed candidates are ignored.

    Args:
        name: The method's name.
        problem: The problem to solve.
        steps: The search as a generator of work.
        planned: Number of jobs that it expects to request.

    Attributes:
        observations: The reported results so far, in order.
    """

    def __init__(self, name: str, problem: Problem, steps: Steps[None], planned: int) -> None:
        self.name = name
        self.planned = planned
        self.observations: list[Observation] = []
        self._problem = problem
        super().__init__(steps, problem.space.supernet, keep_failures=True)

    def tell(self, job: TrainJob, result: TrainResult) -> None:
        """Report the result of a job that was handed out; the jobs of a batch may be reported in any order.

        Raises:
            ValueError: If the job was not handed out, or its result has already been reported.
        """
        super().tell(job, result)
        fidelity = (job.train_size or math.inf, job.training.epochs)
        self.observations.append(Observation(job.architecture, fidelity, self._problem.value(result), result.reason))

    def best(self) -> Architecture:
        """Return the candidate within budget with the best metric on dev at the highest fidelity.

        Ties are broken by fewer parameters, then by the lower id.

        Raises:
            RunError: If no candidate within the budget has succeeded yet.
        """
        good = [t for t in self.observations if math.isfinite(t.value) and self._problem.fits(t.architecture)]
        if not good:
            failed = next((f"; one failed: {t.reason}" for t in self.observations if t.reason), "")
            raise RunError(
                f"{self.name}: none of the {len(self.observations)} candidates so far has succeeded within the budget "
                f"of {self._problem.budget:,} parameters{failed}"
            )
        highest = max(t.fidelity for t in good)
        values = {t.architecture: t.value for t in good if t.fidelity == highest}
        return best_first(self._problem, values)[0]


def best_first(problem: Problem, values: dict[Architecture, float]) -> list[Architecture]:
    """Sort candidates by their metric, larger first; ties by fewer parameters, then by id."""
    return sorted(values, key=lambda a: (-values[a], problem.parameters(a), a.id))


def first_candidates(problem: Problem, n: int) -> list[Architecture]:
    """Draw the distinct, uniformly random architectures within budget that all searches of a problem start from.

    A smaller number yields a prefix of a larger one, so that methods share these jobs, and differ only in what follows.

    Args:
        problem: The space, the budget and the seed.
        n: Number of architectures; fewer are returned if there are not enough.

    Raises:
        InputError: If no slot fits the budget.
    """
    rng = random.Random(derive_seed(problem.seed, "first candidates"))
    return FeasibleSampler(problem.space, problem.budget).distinct(rng, n)
