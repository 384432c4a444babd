"""What methods share that train candidate architectures and keep the best."""

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
class Told:
    """What a search was told about a candidate.

    Args:
        architecture: The candidate.
        fidelity: Training examples (infinite: all of the split) and epochs; larger is closer to the final retraining.
        value: The deciding metric on dev, larger is better; minus infinity if the job failed.
        reason: Why it failed.
    """

    architecture: Architecture
    fidelity: tuple[float, int]
    value: float
    reason: str = ""


class CandidateSearch(GeneratorMethod):
    """A search that evaluates candidates and answers with the best of them; one that fails is one less.

    Args:
        name: The method's name.
        problem: What it works on.
        steps: The search as a generator of work.
        planned: How many jobs it expects to ask for.

    Attributes:
        told: What has been told so far, in order.
    """

    def __init__(self, name: str, problem: Problem, steps: Steps[None], planned: int) -> None:
        self.name = name
        self.planned = planned
        self.told: list[Told] = []
        self._problem = problem
        super().__init__(steps, problem.space.supernet, keep_failures=True)

    def tell(self, job: TrainJob, result: TrainResult) -> None:
        """Feed back the result of a job that was handed out; the jobs of a batch in any order.

        Raises:
            ValueError: If the job was not handed out, or its result was told before.
        """
        super().tell(job, result)
        fidelity = (job.train_size or math.inf, job.training.epochs)
        self.told.append(Told(job.architecture, fidelity, self._problem.value(result), result.reason))

    def best(self) -> Architecture:
        """The candidate within budget with the best metric on dev, of those told at the highest fidelity.

        Of equals the one with fewer parameters, then the lower id.

        Raises:
            RunError: If no candidate within the budget has succeeded yet.
        """
        good = [t for t in self.told if math.isfinite(t.value) and self._problem.fits(t.architecture)]
        if not good:
            failed = next((f"; one failed: {t.reason}" for t in self.told if t.reason), "")
            raise RunError(
                f"{self.name}: none of {len(self.told)} candidates evaluated so far has succeeded within the "
                f"budget of {self._problem.budget:,} parameters{failed}"
            )
        highest = max(t.fidelity for t in good)
        values = {t.architecture: t.value for t in good if t.fidelity == highest}
        return best_first(self._problem, values)[0]


def best_first(problem: Problem, values: dict[Architecture, float]) -> list[Architecture]:
    """Sort candidates by their metric, larger first; equals by fewer parameters, then by id.

    Args:
        problem: Knows their parameters.
        values: The metric of each.
    """
    return sorted(values, key=lambda a: (-values[a], problem.parameters(a), a.id))


def first_candidates(problem: Problem, n: int) -> list[Architecture]:
    """Draw the different uniform architectures within budget that searches of the same problem start from.

    Fewer are the beginning of more, so methods differ in what they make of the same start, and share its jobs.

    Args:
        problem: The space, the budget and the seed.
        n: How many; fewer are returned if there are fewer.

    Raises:
        InputError: If no slot fits the budget.
    """
    rng = random.Random(derive_seed(problem.seed, "first candidates"))
    return FeasibleSampler(problem.space, problem.budget).distinct(rng, n)
