"""Means, intervals and paired tests, which say nothing where the numbers say nothing."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
CONFIDENCE = 0.95
SAME = 1e-12
"""Values closer than this differ by rounding alone."""


@dataclass(frozen=True)
class Estimate:
    """What some values say of the mean behind them.

    Args:
        n: Number of values.
        mean: Their mean; None without values.
        deviation: Sample deviation (divisor n - 1); None with fewer than two values.
        low: Lower end of the 95 % interval of the mean by Student's t; None with fewer than two values, or equal ones.
        high: Upper end.
    """

    n: int = 0
    mean: float | None = None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference:
    """How one method differs from another over the searches that both have, the other subtracted.

    Args:
        n: Number of pairs.
        mean: Mean difference; None without pairs.
        low: Lower end of its 95 % interval; None with fewer than two pairs, or equal differences.
        high: Upper end.
        p: Two-sided p of the paired t-test; None like the interval.
        p_holm: The same, corrected for all that are tested together; None outside such a family.
    """

    n: int = 0
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean behind values by Student's t."""
    n = len(values)
    if n == 0:
        return Estimate()
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(1, mean)
    if _all_same(values):
        return Estimate(n, mean, 0.0)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    from scipy import stats

    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(n)
    return Estimate(n, mean, deviation, mean - half, mean + half)


def paired(values: Mapping[Key, float], others: Mapping[Key, float]) -> Difference:
    """Compare two methods over what both have values for.

    Args:
        values: A method's values, by what they are paired on.
        others: Those of the method that is subtracted.
    """
    shared = [key for key in values if key in others]
    differences = [values[key] - others[key] for key in shared]
    found = estimate(differences)
    p = None
    if len(shared) > 1 and not _all_same(differences):
        from scipy import stats

        p = float(stats.ttest_rel([values[key] for key in shared], [others[key] for key in shared]).pvalue)
    return Difference(found.n, found.mean, found.low, found.high, p)


def correct(family: Mapping[Key, Difference]) -> dict[Key, Difference]:
    """Correct the p of differences that are tested together.

    Args:
        family: All of them; those without p are no tests, and do not count.

    Returns:
        The same, each test with its ``p_holm``.
    """
    tested = {key: difference.p for key, difference in family.items() if difference.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {key: replace(difference, p_holm=corrected.get(key)) for key, difference in family.items()}


def holm(ps: Sequence[float]) -> list[float]:
    """Correct p values so that among all of them the chance of any false alarm stays below the level (Holm 1979).

    Args:
        ps: The p values; the corrected ones come in their order.
    """
    corrected, worst = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = worst
    return corrected


def _all_same(values: Sequence[float]) -> bool:
    return max(values) - min(values) <= SAME
