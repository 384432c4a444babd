"""Seeded, stratified splits and subsets.

They depend only on labels and seed. Random numbers come from ``RandomState``, whose stream NumPy guarantees never to
change, so that splits stay the same in future NumPy versions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prunepeft_ray.tasks.base import Indices, pair_keys, same_letters

QUANTILE_BINS = 10


def stratified_subset(labels: npt.ArrayLike, size: int, seed: int) -> Indices:
    """Choose a subset with the label proportions of the whole, by the largest-remainder method.

    Every class is in the subset if the size allows. Numbers to predict are stratified by quantile bins. For the same
    seed, a smaller subset is contained in a larger one, except that with three or more classes, the largest-remainder
    method may drop an example of a class as the subset grows.

    Args:
        labels: Shape (N,): class ids (integers) or numbers to predict (floats).
        size: Number of examples, at least 0; N or more selects all.
        seed: Any integer.

    Returns:
        Sorted positions, shape (min(size, N),).

    Raises:
        ValueError: If the size is negative.
    """
    if size < 0:
        raise ValueError(f"size must be at least 0, got {size}")
    strata = _strata(np.asarray(labels))
    total = len(strata)
    if size >= total:
        return np.arange(total, dtype=np.int64)
    counts = np.bincount(strata)
    wanted = _keep_all(largest_remainder(counts, size), counts)
    shuffled = np.random.RandomState(seed % 2**32).permutation(total)
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    place_in_stratum = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = by_stratum[place_in_stratum < np.repeat(wanted, counts)]
    return np.sort(chosen).astype(np.int64)


def stratified_split(labels: npt.ArrayLike, shares: Sequence[float], seed: int) -> list[Indices]:
    """Distribute all examples over parts with equal label proportions.

    A class with too few examples for every part goes to the earlier parts first, so training should come first.

    Args:
        labels: Shape (N,): class ids (integers) or numbers to predict (floats).
        shares: Fraction of each part; they add up to 1.
        seed: Any integer.

    Returns:
        Sorted positions of each part; every position is in exactly one part. No part is empty if N allows.

    Raises:
        ValueError: If a fraction is not positive, or they do not add up to 1.
    """
    values = np.asarray(labels)
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares must be positive and add up to 1, got {list(shares)}")
    weights = np.asarray(shares)
    sizes = largest_remainder(weights, len(values))
    if len(values) >= len(sizes):
        sizes = _keep_all(sizes, weights)
    rest = np.arange(len(values), dtype=np.int64)
    parts = []
    for size in sizes.tolist():
        chosen = stratified_subset(values[rest], size, seed)
        parts.append(rest[chosen])
        rest = np.delete(rest, chosen)
    return parts


def largest_remainder(weights: npt.ArrayLike, size: int) -> Indices:
    """Apportion whole units in proportion to weights; leftover units go to the largest remainders.

    Args:
        weights: Shape (K,), non-negative, not all zero.
        size: Number of units to apportion.

    Returns:
        Shape (K,), adding up to ``size``. Equal remainders are served in order.
    """
    values = np.asarray(weights, dtype=np.float64)
    quotas = values * (size / values.sum())
    # a quota such as 2.9999999999999996 means 3
    quotas = np.where(np.abs(quotas - np.rint(quotas)) < 1e-9, np.rint(quotas), quotas)
    result: Indices = np.floor(quotas).astype(np.int64)
    order = np.argsort(-np.round(quotas - result, 9), kind="stable")
    result[order[: size - int(result.sum())]] += 1
    return result


def distinct_examples(
    texts: Sequence[str], texts2: Sequence[str] | None, labels: npt.NDArray[np.generic]
) -> tuple[Indices, npt.NDArray[np.generic]]:
    """Keep one example of each text, or pair of texts, ignoring case, punctuation and whitespace.

    Duplicates with different classes get the most frequent one, and are dropped altogether on a tie; duplicates with
    different numbers get their mean.

    Args:
        texts: N texts.
        texts2: N second texts, or None.
        labels: Shape (N,): class ids (integers) or numbers (floats).

    Returns:
        Sorted positions of the kept examples, shape (M,), and their labels, shape (M,), of the same dtype.
    """
    import pandas as pd

    frame = pd.DataFrame({"key": pair_keys(texts, texts2, same_letters), "label": labels, "at": np.arange(len(texts))})
    if np.issubdtype(labels.dtype, np.floating):
        kept = frame.groupby("key", sort=False).agg(at=("at", "first"), label=("label", "mean"))
    else:
        votes = frame.groupby(["key", "label"], sort=False).agg(votes=("at", "size"), at=("at", "first"))
        votes = votes.reset_index()
        most = votes.groupby("key", sort=False)["votes"].transform("max")
        winners = votes[votes["votes"] == most]
        kept = winners[~winners["key"].duplicated(keep=False)]
    kept = kept.sort_values("at")
    return kept["at"].to_numpy(dtype=np.int64), kept["label"].to_numpy(dtype=labels.dtype)


def _strata(labels: npt.NDArray[np.generic]) -> Indices:
    """Return stratum ids 0..K-1: the classes that occur, or quantile bins of numbers."""
    if not np.issubdtype(labels.dtype, np.floating):
        return np.asarray(np.unique(labels, return_inverse=True)[1], dtype=np.int64)
    bins = max(1, min(QUANTILE_BINS, len(labels) // 2))
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[np.argsort(labels, kind="stable")] = np.arange(len(labels))
    return ranks * bins // max(1, len(labels))


def _keep_all(shares: Indices, weights: npt.ArrayLike) -> Indices:
    """Give one unit to every part that has none, from the part furthest above its quota, if there are enough."""
    result = shares.copy()
    if result.sum() < len(result):
        return result
    values = np.asarray(weights, dtype=np.float64)
    quotas = values * (result.sum() / values.sum())
    for empty in np.flatnonzero(result == 0):
        surplus = np.where(result > 1, result - quotas, -np.inf)
        result[int(np.argmax(surplus))] -= 1
        result[empty] = 1
    return result
