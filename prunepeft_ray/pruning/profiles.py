"""From scores and a hybrid strategy to pruning probabilities p(m) (paper, Section 3.3 and Eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prunepeft_ray.architecture import Partition, Slot
from prunepeft_ray.criteria.base import CRITERIA
from prunepeft_ray.pruning.scores import Compare, most_prunable, prunability, softmax, standardise
from prunepeft_ray.pruning.strategy import Strategy
from prunepeft_ray.registry import Registry

_REFERENCE_LIST = 4
"""How many slots the released code lists per criterion, and keeps per partition."""


@dataclass(frozen=True)
class RoundScores:
    """What a profile turns into probabilities.

    Args:
        thetas: Theta by criterion, for all remaining slots.
        partitions: The partition of every slot; may know more slots than remain.
        strategy: The hybrid strategy.
        compare: How slots of different kinds are set against each other.
        seed: Breaks ties where a profile has to.
    """

    thetas: Mapping[str, Mapping[Slot, float]]
    partitions: Mapping[Slot, Partition]
    strategy: Strategy
    compare: Compare = "within-kind"
    seed: int = 0

    @property
    def slots(self) -> list[Slot]:
        """The remaining slots, in slot order."""
        return sorted(next(iter(self.thetas.values()), {}))

    def members(self) -> dict[Partition, list[Slot]]:
        """The remaining slots of every partition that has any."""
        members: dict[Partition, list[Slot]] = {}
        for slot in self.slots:
            members.setdefault(self.partitions[slot], []).append(slot)
        return members

    def oriented(self, criterion: str, slots: list[Slot]) -> dict[Slot, float]:
        """A criterion's scores of some slots, larger for pruned sooner, in the criterion's own unit."""
        return prunability(CRITERIA[criterion], {slot: self.thetas[criterion][slot] for slot in slots}, "raw")


Profile = Callable[[RoundScores], dict[Slot, float]]
"""Gives every remaining slot its probability of being pruned."""

PROFILES: Registry[Profile] = Registry("profile")


def paper(scores: RoundScores) -> dict[Slot, float]:
    """Paper, Eq. 1: ``p(m_i) = exp(k_i Theta_i) / sum_j exp(k_j Theta_j)`` within each partition.

    As printed it would remove important slots and depend on units. Here Theta is oriented (larger: pruned
    sooner) and standardised within the partition, and ``k_i = sigmoid(3 - rank_i)`` with rank 0 for the
    most prunable; equal scores share their mean rank. Several criteria of a partition are averaged. Sums to
    1 in each partition.
    """
    p: dict[Slot, float] = {}
    for partition, slots in scores.members().items():
        criteria = scores.strategy.assignment[partition]
        judged = [_equation_1(standardise(scores.oriented(name, slots))) for name in criteria]
        p |= {slot: math.fsum(one[slot] for one in judged) / len(judged) for slot in slots}
    return {slot: p[slot] for slot in scores.slots}


def _equation_1(theta: dict[Slot, float]) -> dict[Slot, float]:
    return softmax({slot: _sigmoid(3 - rank) * theta[slot] for slot, rank in _mean_ranks(theta).items()})


def _mean_ranks(values: Mapping[Slot, float]) -> dict[Slot, float]:
    ordered = list(values.values())
    return {
        slot: sum(other > value for other in ordered) + (ordered.count(value) - 1) / 2 for slot, value in values.items()
    }


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def reference(scores: RoundScores) -> dict[Slot, float]:
    """Apply the decision rule of the released code, which differs from the paper's Eq. 1.

    In each partition every assigned criterion lists its 4 most prunable slots; a slot scores the sum over
    criteria of the softmax of ``Theta / (max Theta + 1e-5)`` over the list, times
    ``5 / (1 + e^(rank - 3))``. The softmax of the 4 best is their p(m), all other slots get 0. Sums to 1 in
    each partition, so that a lone slot goes next.
    """
    p = dict.fromkeys(scores.slots, 0.0)
    for partition, slots in scores.members().items():
        totals: dict[Slot, float] = {}
        for name in scores.strategy.assignment[partition]:
            for slot, score in _listed(scores, name, slots).items():
                totals[slot] = totals.get(slot, 0.0) + score
        kept = most_prunable(totals, _REFERENCE_LIST, scores.seed)
        p |= softmax({slot: totals[slot] for slot in sorted(kept)})
    return p


def _listed(scores: RoundScores, criterion: str, slots: list[Slot]) -> dict[Slot, float]:
    listed = most_prunable(scores.oriented(criterion, slots), _REFERENCE_LIST, scores.seed)
    thetas = {slot: scores.thetas[criterion][slot] for slot in listed}
    top = max(thetas.values()) + 1e-5
    shares = softmax({slot: theta / top for slot, theta in thetas.items()})
    return {slot: shares[slot] * 5 / (1 + math.exp(rank - 3)) for rank, slot in enumerate(listed)}


def averaged(scores: RoundScores) -> dict[Slot, float]:
    """Bayesian model averaging, ours: ``p(m) = sum_c p(m | c) p(c | partition of m)``.

    ``p(m | c)`` is the softmax of a criterion's standardised scores over all remaining slots,
    ``p(c | partition)`` the strategy's weights. Partitions compete on equal terms and a lone slot is not
    doomed. Sums to 1 over all slots.
    """
    total = dict.fromkeys(scores.slots, 0.0)
    for name in scores.strategy.criteria:
        for slot, share in softmax(_standard_scores(scores, name)).items():
            total[slot] += share * scores.strategy.weights[scores.partitions[slot]][name]
    mass = math.fsum(total.values())
    return {slot: value / mass for slot, value in total.items()}


def _standard_scores(scores: RoundScores, criterion: str) -> dict[Slot, float]:
    values = prunability(CRITERIA[criterion], scores.thetas[criterion], scores.compare)
    # raw: kinds compete by their Theta as it is, but no criterion by its unit
    return standardise(values) if scores.compare == "raw" else values


PROFILES.register("paper", paper)
PROFILES.register("reference", reference)
PROFILES.register("averaged", averaged)
