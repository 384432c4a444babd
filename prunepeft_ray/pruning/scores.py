"""From a criterion's Theta to an order of slots (paper, Table 1 and Section 3.3).

Theta of a parallel and of a serial module live on different scales, so the raw values would decide by the
kind alone which slots go first. Everything here is independent of the order in which slots are listed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from prunepeft_ray.architecture import KINDS, Slot
from prunepeft_ray.criteria.base import Criterion
from prunepeft_ray.errors import RunError
from prunepeft_ray.jobs import TrainResult
from prunepeft_ray.seeds import derive_seed

Compare = Literal["within-kind", "raw"]
"""How slots of different kinds are set against each other."""

Halves = Mapping[Slot, tuple[float, float]]
"""Theta of every slot from two halves of what it was measured on."""

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
    scores: dict[Slot, float] = {}
    for group in comparable(criterion, oriented, compare):
        scores |= standardise({slot: oriented[slot] for slot in group})
    return {slot: scores[slot] for slot in oriented}


def comparable(criterion: Criterion, slots: Iterable[Slot], compare: Compare) -> list[list[Slot]]:
    """Split slots into the groups within which a criterion's Theta are compared: kinds, or all slots at once.

    Args:
        criterion: The criterion.
        slots: The slots.
        compare: How slots of different kinds are set against each other.
    """
    ordered = sorted(slots)
    if compare == "raw" or criterion.scale_free:
        return [ordered] if ordered else []
    groups = [[slot for slot in ordered if slot.kind == kind] for kind in KINDS]
    return [group for group in groups if group]


def told_apart(criterion: Criterion, thetas: Mapping[Slot, float], compare: Compare) -> set[Slot]:
    """Return the slots of the groups in which a criterion does not give every slot the same value.

    Elsewhere it abstains: an order of its slots would be that of the ties, which are drawn at random.

    Args:
        criterion: The criterion.
        thetas: Theta of every slot.
        compare: How slots of different kinds are set against each other.
    """
    groups = comparable(criterion, thetas, compare)
    return {slot for group in groups if any(standardise({s: thetas[s] for s in group}).values()) for slot in group}


def tied_for_last(criterion: Criterion, thetas: Mapping[Slot, float], compare: Compare) -> set[Slot]:
    """Return the slots that share the lowest score of their group: of those a criterion would not rather remove one.

    Where it gives every slot the same value, these are all.

    Args:
        criterion: The criterion.
        thetas: Theta of every slot.
        compare: How slots of different kinds are set against each other.
    """
    scores = prunability(criterion, thetas, compare)
    tied: set[Slot] = set()
    for group in comparable(criterion, thetas, compare):
        standard = standardise({slot: scores[slot] for slot in group})
        last = {slot for slot in group if standard[slot] == min(standard.values())}
        tied |= last if len(last) > 1 else set()
    return tied


def reliability(halves: Collection[tuple[float, float]]) -> float:
    """Estimate which share of the variance of Theta between slots is theirs, and not chance: 0 to 1.

    Rulon's split-half formula (1939), ``1 - var(a - b) / var(a + b)`` over the slots, for Theta a and b of two halves:
    what differs between the halves is noise. It holds for both halves together, as the Spearman-Brown formula does,
    which it equals for halves of one variance. A difference that all slots share is not held against them. By chance
    alone it is negative as often as not, which counts as 0.

    Args:
        halves: Theta of every slot from each half of what it was measured on.

    Returns:
        The estimate; 0 where all sums are equal.
    """
    scale = max((abs(value) for pair in halves for value in pair), default=0.0) or 1.0
    spread = _variance([a / scale + b / scale for a, b in halves])
    if math.sqrt(spread) <= 2 * _NOISE:
        return 0.0
    return max(0.0, 1 - _variance([a / scale - b / scale for a, b in halves]) / spread)


def _variance(values: Collection[float]) -> float:
    mean = math.fsum(values) / max(1, len(values))
    return math.fsum((value - mean) ** 2 for value in values) / max(1, len(values))


def reliable_scores(
    criterion: Criterion, thetas: Mapping[Slot, float], halves: Halves, compare: Compare
) -> dict[Slot, float]:
    """Return standard scores, larger for pruned sooner, shrunk towards 0 by how reliable they are.

    Without this a spread of chance would have the weight of a clear one. Standard scores times the reliability are
    what regression towards the mean makes of them (Kelley 1947).

    Args:
        criterion: The criterion.
        thetas: Theta of every slot.
        halves: Theta of two halves; where a slot of a group lacks them, the group's scores stay as they are.
        compare: How slots of different kinds are set against each other.
    """
    values = prunability(criterion, thetas, compare)
    scores: dict[Slot, float] = {}
    for group in comparable(criterion, thetas, compare):
        # raw: kinds compete by their Theta as it is, but no criterion by its unit
        standard = standardise({slot: values[slot] for slot in group}) if compare == "raw" else values
        share = reliability([halves[slot] for slot in group]) if halves.keys() >= set(group) else 1.0
        scores |= {slot: standard[slot] * share for slot in group}
    return {slot: scores[slot] for slot in values}


def standardise(scores: Mapping[Slot, float]) -> dict[Slot, float]:
    """Return standard scores by the population's deviation; all 0 if the values are equal or only one."""
    # dividing by the largest value first keeps squares of tiny gradients from vanishing
    scale = max((abs(score) for score in scores.values()), default=0.0) or 1.0
    scaled = {slot: score / scale for slot, score in scores.items()}
    mean = math.fsum(scaled.values()) / max(1, len(scaled))
    deviation = math.sqrt(_variance(scaled.values()))
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


def read_halves(result: TrainResult, criteria: Iterable[str], slots: Iterable[Slot]) -> dict[str, Halves]:
    """Read Theta of two halves by criterion and slot; what was not measured is left out.

    Args:
        result: The result of a job that collected the criteria.
        criteria: The criteria to read.
        slots: The slots of the job's architecture.
    """
    slots = tuple(slots)
    found = {name: result.halves.get(name, {}) for name in criteria}
    return {
        name: {slot: row[str(slot)] for slot in slots if all(map(math.isfinite, row.get(str(slot), (math.nan,))))}
        for name, row in found.items()
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
