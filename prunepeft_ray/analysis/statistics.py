"""Means, their intervals and tests of differences, which say nothing where the numbers say nothing."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Annotated, TypeVar

from prunepeft_ray.analysis.columns import NUMBER, WHOLE, Described

Key = TypeVar("Key", bound=Hashable)
Crossed = Mapping[int, Mapping[int, float]]
"""Values by seed of the search, then by seed of the retraining of what it found."""
CONFIDENCE = 0.95
SAME = 1e-12
"""Values closer than this differ by rounding alone."""


@dataclass(frozen=True)
class Estimate:
    """What some values, or crossed ones by search, say of the mean behind them."""

    n: Annotated[int, Described(WHOLE, "searches with a value on {split}")] = 0
    mean: Annotated[
        float | None, Described(NUMBER, "primary metric on {split}: of a search the mean over its retrainings")
    ] = None
    deviation: Annotated[
        float | None,
        Described(NUMBER, "its standard deviation over searches (divisor n - 1); null with fewer than two"),
    ] = None
    low: Annotated[
        float | None,
        Described(
            NUMBER,
            "lower end of the mean's 95 % confidence interval, for {population}; null where it cannot be estimated",
        ),
    ] = None
    high: Annotated[float | None, Described(NUMBER, "upper end")] = None
    df: Annotated[float | None, Described(NUMBER, "degrees of freedom of that interval")] = None


@dataclass(frozen=True)
class Difference:
    """How one method differs from another, the other subtracted."""

    n: Annotated[int, Described(WHOLE, "{what}")] = 0
    mean: Annotated[float | None, Described(NUMBER, "difference to `prunepeft` on test: mean over {those}")] = None
    low: Annotated[
        float | None,
        Described(
            NUMBER, "lower end of its 95 % confidence interval, for {population}; null where it cannot be estimated"
        ),
    ] = None
    high: Annotated[float | None, Described(NUMBER, "upper end")] = None
    df: Annotated[float | None, Described(NUMBER, "degrees of freedom of interval and test")] = None
    p: Annotated[float | None, Described(NUMBER, "two-sided p value of the test that there is no difference")] = None
    p_holm: Annotated[
        float | None, Described(NUMBER, "the same, corrected for the number of rows of role method tested here (Holm)")
    ] = None


NO_DIFFERENCE = Difference()


@dataclass(frozen=True)
class _Error:
    """Standard error of a mean, and its degrees of freedom."""

    size: float
    df: float

    def interval(self, mean: float) -> tuple[float, float]:
        from scipy.special import stdtrit

        half = float(stdtrit(self.df, (1 + CONFIDENCE) / 2)) * self.size
        return mean - half, mean + half

    def p(self, mean: float) -> float:
        from scipy.special import stdtr

        return 2 * float(stdtr(self.df, -abs(mean) / self.size))


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean behind independent values by Student's t."""
    return _estimate(values, _error(values))


def estimate_crossed(values: Crossed) -> Estimate:
    """Estimate what a method finds on average, over other searches retrained under other seeds.

    A search counts with the mean of its retrainings; ``deviation`` is that among searches.
    """
    return _estimate(_search_means(values), _crossed_error(values))


def difference(values: Crossed, others: Crossed) -> Difference:
    """Compare two methods, paired on the seeds of search and retraining.

    What both have under the same two seeds is subtracted first, so what a seed does to both alike cancels. A method
    without chance finds the same in every search: its differences to another then vary over searches only by the other.

    Args:
        values: A method's values.
        others: Those of the method that is subtracted.
    """
    pairs = {
        search: {seed: value - others[search][seed] for seed, value in row.items() if seed in others[search]}
        for search, row in values.items()
        if search in others
    }
    found = {search: row for search, row in pairs.items() if row}
    return _difference(_search_means(found), _crossed_error(found))


def difference_over(values: Sequence[float]) -> Difference:
    """Test the mean of differences that are independent of each other, such as one per task, by Student's t.

    They need not be equally exact: at a level of 5 %, unequal variances make the test no less strict (Ibragimov and
    Müller 2010).
    """
    return _difference(values, _error(values))


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


def _estimate(values: Sequence[float], error: _Error | None) -> Estimate:
    if not values:
        return Estimate()
    n, mean = len(values), fmean(values)
    if error is None:
        return Estimate(n, mean, _deviation(values))
    return Estimate(n, mean, _deviation(values), *error.interval(mean), error.df)


def _difference(values: Sequence[float], error: _Error | None) -> Difference:
    if not values:
        return Difference()
    n, mean = len(values), fmean(values)
    return Difference(n, mean) if error is None else Difference(n, mean, *error.interval(mean), error.df, error.p(mean))


def _search_means(values: Crossed) -> list[float]:
    return [fmean(row.values()) for row in values.values()]


def _deviation(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    if max(values) - min(values) <= SAME:
        return 0.0
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _error(values: Sequence[float]) -> _Error | None:
    deviation = _deviation(values)
    return _Error(deviation / math.sqrt(len(values)), len(values) - 1) if deviation else None


def _crossed_error(values: Crossed) -> _Error | None:
    """Estimate the error of a mean over searches and retrainings, both drawn at random and crossed.

    The variance of search means over their number, plus the same for the means of retraining seeds, is the variance of
    the mean, with what belongs to single retrainings in both: never too small, unlike the unbiased one that subtracts
    it again and with few seeds is often negative (two-way clustering: Cameron, Gelbach and Miller 2011). Degrees of
    freedom by Satterthwaite (1946); searches that found the same architecture share their retrainings, and are one
    degree together. Only retraining seeds that every search has are looked at.
    """
    import numpy as np

    rows = list(values.values())
    shared = sorted(set[int]().union(*rows).intersection(*rows))
    if len(rows) < 2 or len(shared) < 2:
        return None
    table = np.array([[row[seed] for seed in shared] for row in rows])
    different = len(np.unique(table.round(12), axis=0))
    searches = float(table.mean(axis=1).var(ddof=1)) / len(rows)
    retrainings = float(table.mean(axis=0).var(ddof=1)) / len(shared)
    variance = searches + retrainings
    if variance <= SAME**2:
        return None
    df = variance**2 / (searches**2 / max(different - 1, 1) + retrainings**2 / (len(shared) - 1))
    return _Error(math.sqrt(variance), df)
