"""From a criterion's Theta to an order of slots (paper, Table 1 and Section 3.3).

Theta of a parallel and of a serial module live on different scales, so the raw values would decide by the
kind alone which slots go first. Everything here is independent of the order in which slots are listed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from prunepeft_ray.architecture import KINDS, Slot
from prunepeft_ray.criteria.base import Criterion
from prunepeft_ray.errors import RunError
from prunepeft_ray.jobs import TrainResult
from prunepeft_ray.seeds import derive_seed

Compare = Literal["within-kind", "raw"]
"""How slots of different kinds are set against each other."""

_NOISE = 1e-12
"""Relative differences below this are rounding errors: such scores count as equal."""


def prunability(criterion: Criterion, thetas: Mapping[Slot, float], compare: Compare) -> dict[Slot, float]:
    """Turn a criterion's Theta into scores where larger means pruned sooner.

    The paper compares raw values; standardising within each kind is ours, so that no unit decides between
    kinds.

    Args:
        criterion: The criterion; it knows whether small or large Theta go first (paper, Table 1).
        thetas: Theta of every slot that is compared.
        compare: ``"raw"`` for the oriented Theta as it is; ``"within-kind"`` for its standard score among
            the slots of its kind, or among all slots if the criterion is free of scale.

    Returns:
        A score for every slot, in slot order.
    """
    oriented = {slot: criterion.prunability(thetas[slot]) for slot in sorted(thetas)}
    if compare == "raw":
        return oriented
    if criterion.scale_free:
        return standardise(oriented)
    scores: dict[Slot, float] = {}
    for kind in KINDS:
        scores |= standardise({slot: score for slot, score in oriented.items() if slot.kind == kind})
    return {slot: scores[slot] for slot in oriented}


def standardise(scores: Mapping[Slot, float]) -> dict[Slot, float]:
    """Return standard scores by the population's deviation; all 0 if the values are equal or only one."""
    # dividing by the largest value first keeps squares of tiny gradients from vanishing
    scale = max((abs(score) for score in scores.values()), default=0.0) or 1.0
    scaled = {slot: score / scale for slot, score in scores.items()}
    mean = math.fsum(scaled.values()) / max(1, len(scaled))
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scaled.values()) / max(1, len(scaled)))
    if deviation <= _NOISE:
        return dict.fromkeys(scores, 0.0)
    # equal standard scores of two kinds must stay equal when one kind's unit changes
    return {slot: round((score - mean) / deviation, 12) for slot, score in scaled.items()}


def softmax(scores: Mapping[Slot, float]) -> dict[Slot, float]:
    """Return the softmax of scores, without overflow; empty for no scores."""
    top = max(scores.values(), default=0.0)
    powers = {slot: math.exp(score - top) for slot, score in scores.items()}
    total = math.fsum(powers.values())
    return {slot: power / total for slot, power in powers.items()}


def most_prunable(scores: Mapping[Slot, float], count: int, seed: int) -> list[Slot]:
    """Return the slots with the highest scores, highest first.

    Ties are broken by a permutation that the seed draws, so that a criterion that cannot tell slots apart
    has no leaning towards the first layers.

    Args:
        scores: A score for every slot.
        count: How many slots; all of them if there are fewer.
        seed: Seed of the permutation.
    """
    return sorted(scores, key=lambda slot: (-scores[slot], derive_seed(seed, "tie", slot), slot))[:count]


def read_thetas(
    result: TrainResult, criteria: Iterable[str], slots: Iterable[Slot], label: str
) -> dict[str, dict[Slot, float]]:
    """Read Theta by criterion and slot from a job's result.

    Args:
        result: The result of a job that collected the criteria.
        criteria: The criteria to read.
        slots: The slots of the job's architecture.
        label: What the job was, for the error.

    Raises:
        RunError: If a value is missing or no finite number.
    """
    slots = tuple(slots)
    return {
        name: {slot: _finite_theta(result.scores.get(name, {}).get(str(slot)), name, slot, label) for slot in slots}
        for name in criteria
    }


def _finite_theta(theta: float | None, criterion: str, slot: Slot, label: str) -> float:
    if theta is None:
        raise RunError(f"{label}: the result has no score of criterion '{criterion}' for slot {slot}")
    if not math.isfinite(theta):
        raise RunError(
            f"{label}: criterion '{criterion}' of slot {slot} is {theta}: the training diverged; "
            "try lower training.learning_rates"
        )
    return theta
