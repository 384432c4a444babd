"""Profiles: pruning probabilities p(m) from scores and a hybrid strategy (paper, Section 3.3 and Eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from prunepeft_ray.architecture import Partition, Slot
from prunepeft_ray.criteria.base import CRITERIA
from prunepeft_ray.pruning.scores import (
    Compare,
    Halves,
    distinguished,
    most_prunable,
    prunability,
    reliable_scores,
    softmax,
    standardise,
    tied_for_last,
)
from prunepeft_ray.pruning.strategy import Strategy
from prunepeft_ray.registry import Registry

_REFERENCE_LIST = 4
"""Number of slots that the released code lists per criterion and keeps per partition."""


@dataclass(frozen=True)
class RoundScores:
    """The scores of a round, which a profile turns into probabilities.

    Args:
        thetas: Theta by criterion, for all remaining slots.
        partitions: The partition of every slot; may include slots that have been removed.
        strategy: The hybrid strategy.
        compare: How slots of different kinds are compared.
        seed: Seed for breaking ties.
        halves: Theta from two halves of the pass, by criterion, where available.
    """

    thetas: Mapping[str, Mapping[Slot, float]]
    partitions: Mapping[Slot, Partition]
    strategy: Strategy
    compare: Compare = "within-kind"
    seed: int = 0
    halves: Mapping[str, Halves] = field(default_factory=dict)

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
        """Return a criterion's scores of some slots in its own unit; larger means pruned sooner."""
        return prunability(CRITERIA[criterion], {slot: self.thetas[criterion][slot] for slot in slots}, "raw")

    @cached_property
    def distinguished(self) -> dict[str, set[Slot]]:
        """The slots that each criterion distinguishes; on all others it abstains."""
        return {name: distinguished(CRITERIA[name], row, self.compare) for name, row in self.thetas.items()}

    def judges(self, slot: Slot) -> tuple[str, ...]:
        """Return the criteria that judge a slot: those assigned to its partition that do not abstain; maybe none."""
        assigned = self.strategy.assignment[self.partitions[slot]]
        return tuple(name for name in assigned if slot in self.distinguished[name])


Profile = Callable[[RoundScores], dict[Slot, float]]
"""Assigns every remaining slot its probability of being pruned."""

PROFILES: Registry[Profile] = Registry("profile")


def paper(scores: RoundScores) -> dict[Slot, float]:
    """Apply the paper's Eq. 1, ``p(m_i) = exp(k_i Theta_i) / sum_j exp(k_j Theta_j)``, within each partition.

    As printed, the equation would remove important slots and depend on units. Here, Theta is oriented (larger: pruned
    sooner) and standardised within the partition, and ``k_i = sigmoid(3 - rank_i)`` with rank 0 for the most prunable
    slot; equal scores share their mean rank. If several criteria judge a partition, their probabilities are averaged,
    except for criteria that give all its slots the same value; if all do, its slots are equally probable. Sums to 1 in
    each partition.
    """
    p: dict[Slot, float] = {}
    for partition, slots in scores.members().items():
        standard = [standardise(scores.oriented(name, slots)) for name in scores.strategy.assignment[partition]]
        # if all abstain, every slot gets the same probability
        judged = [_equation_1(one) for one in standard if any(one.values())] or [_equation_1(standard[0])]
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

    In each partition, every assigned criterion lists its 4 most prunable slots. A slot's score is the sum over
    criteria of the softmax of ``Theta / (max Theta + 1e-5)`` over the list, times ``5 / (1 + e^(rank - 3))``. The
    softmax of the 4 highest scores is p(m); all other slots get 0. Sums to 1 in each partition, so a slot that is alone
    in its partition is pruned next. Unlike the released code, slots that tie for a criterion's lowest score (all slots,
    if it abstains) are left off its list, since their order would be random.
    """
    p = dict.fromkeys(scores.slots, 0.0)
    for partition, slots in scores.members().items():
        totals = dict.fromkeys(slots, 0.0)
        for name in scores.strategy.assignment[partition]:
            for slot, score in _listed(scores, name, slots).items():
                totals[slot] += score
        kept = most_prunable(totals, _REFERENCE_LIST, scores.seed)
        p |= softmax({slot: totals[slot] for slot in sorted(kept)})
    return p


def _listed(scores: RoundScores, criterion: str, slots: list[Slot]) -> dict[Slot, float]:
    of_slots = {slot: scores.thetas[criterion][slot] for slot in slots}
    tied = tied_for_last(CRITERIA[criterion], of_slots, "raw")
    ordered = {slot: score for slot, score in scores.oriented(criterion, slots).items() if slot not in tied}
    listed = most_prunable(ordered, _REFERENCE_LIST, scores.seed)
    thetas = {slot: of_slots[slot] for slot in listed}
    top = max(thetas.values(), default=0.0) + 1e-5
    shares = softmax({slot: theta / top for slot, theta in thetas.items()})
    return {slot: shares[slot] * 5 / (1 + math.exp(rank - 3)) for rank, slot in enumerate(listed)}


def averaged(scores: RoundScores) -> dict[Slot, float]:
    """Average over criteria in the Bayesian sense (not in the paper): ``p(m) = sum_c p(m | c) p(c | partition of m)``.

    ``p(m | c)`` is the softmax over all remaining slots of a criterion's standardised scores, shrunk by their
    reliability; ``p(c | partition)`` are the strategy's weights, renormalised over the criteria that do not abstain.
    If all abstain on a slot, its scores are neutral. Partitions compete on equal terms, and a slot that is alone in its
    partition is not pruned automatically. Sums to 1 over all slots.
    """
    judged = {
        name: softmax(reliable_scores(CRITERIA[name], scores.thetas[name], scores.halves.get(name, {}), scores.compare))
        for name in scores.strategy.criteria
    }
    total = {
        slot: math.fsum(weight * judged[name][slot] for name, weight in _weights(scores, slot).items())
        for slot in scores.slots
    }
    mass = math.fsum(total.values())
    return {slot: value / mass for slot, value in total.items()}


def _weights(scores: RoundScores, slot: Slot) -> dict[str, float]:
    """Normalised weights of the criteria that do not abstain on a slot; if all abstain, of all criteria."""
    weights = scores.strategy.weights[scores.partitions[slot]]
    voting = [name for name in weights if slot in scores.distinguished[name]] or list(weights)
    total = math.fsum(weights[name] for name in voting)
    return {name: weights[name] / total if total else 1 / len(voting) for name in voting}


PROFILES.register("paper", paper)
PROFILES.register("reference", reference)
PROFILES.register("averaged", averaged)
