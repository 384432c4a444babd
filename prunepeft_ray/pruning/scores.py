"""Scores: ranking slots by a criterion's Theta (paper, Table 1 and Section 3.3).

Theta of parallel and of serial modules are on different scales, so that raw values would rank slots by their kind
alone. Everything here is independent of the order in which slots are listed.
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
"""How slots of different kinds are compared."""

Halves = Mapping[Slot, tuple[float, float]]
"""Theta of every slot, from two halves of the measurements."""

_NOISE = 1e-12
"""Relative differences below this are rounding errors; such scores count as equal."""


def prunability(criterion: Criterion, thetas: Mapping[Slot, float], compare: Compare) -> dict[Slot, float]:
    """Turn a criterion's Theta into scores; larger means pruned sooner.

    The paper compares raw values. Standardising within each kind, which is not in the paper, keeps units from deciding
    between kinds.

    Args:
        criterion: The criterion, which defines whether small or large Theta are pruned first (paper, Table 1).
        thetas: Theta of every slot that is compared.
        compare: ``"raw"`` for the oriented Theta itself; ``"within-kind"`` for its standard score among the slots of
            its kind, or among all slots if the criterion is scale-free.

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
    """Group slots whose Theta a criterion can compare: the slots of each kind, or all slots.

    Args:
        criterion: The criterion.
        slots: The slots to group.
        compare: How slots of different kinds are compared.
    """
    ordered = sorted(slots)
    if compare == "raw" or criterion.scale_free:
        return [ordered] if ordered else []
    groups = [[slot for slot in ordered if slot.kind == kind] for kind in KINDS]
    return [group for group in groups if group]


def distinguished(criterion: Criterion, thetas: Mapping[Slot, float], compare: Compare) -> set[Slot]:
    """Return the slots of all groups in which a criterion does not give every slot the same value.

    In the other groups it abstains: their slots would be ordered by ties, which are broken at random.

    Args:
        criterion: The criterion.
        thetas: Theta of every slot.
        compare: How slots of different kinds are compared.
    """
    groups = comparable(criterion, thetas, compare)
    return {slot for group in groups if any(standardise({s: thetas[s] for s in group}).values()) for slot in group}


def tied_for_last(criterion: Criterion, thetas: Mapping[Slot, float], compare: Compare) -> set[Slot]:
    """Return the slots that share the lowest score of their group, among which a criterion has no preference.

    If it gives every slot of a group the same value, these are all of them.

    Args:
        criterion: The criterion.
        thetas: Theta of every slot.
        compare: How slots of different kinds are compared.
    """
    scores = prunability(criterion, thetas, compare)
    tied: set[Slot] = set()
    for group in comparable(criterion, thetas, compare):
        standard = standardise({slot: scores[slot] for slot in group})
        last = {slot for slot in group if standard[slot] == min(standard.values())}
        tied |= last if len(last) > 1 else set()
    return tied


def reliability(halves: Collection[tuple[float, float]]) -> float:
    """Estimate the fraction of Theta's variance between slots that is real rather than noise: 0 to 1.

    Rulon's split-half formula (1939), ``1 - var(a - b) / var(a + b)`` over the slots, where a and b are Theta of the
    two halves: differences between the halves are noise. Like the Spearman-Brown formula, which it equals for halves of
    equal variance, it holds for both halves together. A difference common to all slots does not lower it. Pure noise
    yields a negative estimate about half of the time; it is clamped to 0.

    Args:
        halves: Theta of every slot, from each half of the measurements.

    Returns:
        The estimate; 0 if all sums are equal.
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
    """Return standard scores, shrunk towards 0 by their reliability; larger means pruned sooner.

    Without shrinkage, random differences would carry as much weight as real ones. A standard score times its
    reliability is the regression estimate of the true score (Kelley 1947).

    Args:
        criterion: The criterion.
        thetas: Theta of every slot.
        halves: Theta of two halves; if a slot of a group lacks them, the group's scores are not shrunk.
        compare: How slots of different kinds are compared.
    """
    values = prunability(criterion, thetas, compare)
    scores: dict[Slot, float] = {}
    for group in comparable(criterion, thetas, compare):
        # raw values decide between kinds, but units must not decide between criteria
        standard = standardise({slot: values[slot] for slot in group}) if compare == "raw" else values
        share = reliability([halves[slot] for slot in group]) if halves.keys() >= set(group) else 1.0
        scores |= {slot: standard[slot] * share for slot in group}
    return {slot: scores[slot] for slot in values}


def standardise(scores: Mapping[Slot, float]) -> dict[Slot, float]:
    """Return standard scores, by the population standard deviation; all 0 if the values are equal or only one."""
    # dividing by the largest value first keeps squares of tiny gradients from underflowing
    scale = max((abs(score) for score in scores.values()), default=0.0) or 1.0
    scaled = {slot: score / scale for slot, score in scores.items()}
    mean = math.fsum(scaled.values()) / max(1, len(scaled))
    deviation = math.sqrt(_variance(scaled.values()))
    if deviation <= _NOISE:
        return dict.fromkeys(scores, 0.0)
    # rounded, so that equal standard scores of two kinds stay equal when one kind's unit changes
    return {slot: round((score - mean) / deviation, 12) for slot, score in scaled.items()}


def softmax(scores: Mapping[Slot, float]) -> dict[Slot, float]:
    """Return the softmax of scores, computed without overflow; empty if there are none."""
    top = max(scores.values(), default=0.0)
    powers = {slot: math.exp(score - top) for slot, score in scores.items()}
    total = math.fsum(powers.values())
    return {slot: power / total for slot, power in powers.items()}


def most_prunable(scores: Mapping[Slot, float], count: int, seed: int) -> list[Slot]:
    """Return the slots with the highest scores, highest first.

    Ties are broken by a seeded permutation, so that a criterion that cannot distinguish slots is not biased towards the
    first layers.

    Args:
        scores: A score for every slot.
        count: Number of slots; all are returned if there are fewer.
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
        label: The job's label, for error messages.

    Raises:
        RunError: If a value is missing or not finite.
    """
    slots = tuple(slots)
    return {
        name: {slot: _finite_theta(result.scores.get(name, {}).get(str(slot)), name, slot, label) for slot in slots}
        for name in criteria
    }


def read_halves(result: TrainResult, criteria: Iterable[str], slots: Iterable[Slot]) -> dict[str, Halves]:
    """Read Theta of two halves by criterion and slot; values that were not measured are left out.

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
        raise RunError(f"{label}: the result lacks the score of criterion '{criterion}' for slot {slot}")
    if not math.isfinite(theta):
        raise RunError(
            f"{label}: the training diverged: criterion '{criterion}' of slot {slot} is {theta}; "
            "try lower training.learning_rates"
        )
    return theta
