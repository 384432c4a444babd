"""Random pruning and no pruning at all: baselines that a search must beat (paper, Table 5)."""

from __future__ import annotations

import random
from collections.abc import Iterable

from prunepeft_baselines.settled import Settled
from prunepeft_ray import (
    Architecture,
    MethodInfo,
    NoOptions,
    Problem,
    Slot,
    check_holds_slot,
    derive_seed,
    partition_of,
    slots_per_round,
    slots_to_remove,
)


def random_pruning(problem: Problem, _options: NoOptions) -> Settled:
    """Apply PrunePEFT's rounds with slots removed uniformly at random.

    Nothing is scored, so no round is trained and the search is free; training the rounds would only make the baseline
    look more expensive than it is.

    Raises:
        InputError: If no slot fits the budget.
    """
    slots = list(problem.space.supernet.slots)
    random.Random(derive_seed(problem.seed, "random-pruning")).shuffle(slots)
    return Settled("random-pruning", _prune(problem, slots))


def random_pruning_balanced(problem: Problem, _options: NoOptions) -> Settled:
    """Apply PrunePEFT's rounds with slots removed uniformly within partitions, and equally from each if possible.

    Like :func:`random_pruning`, it trains nothing.

    Raises:
        InputError: If no slot fits the budget, or the backbone is too shallow for the blocks.
    """
    rng = random.Random(derive_seed(problem.seed, "random-pruning-balanced"))
    return Settled("random-pruning-balanced", _prune(problem, balanced_order(problem, rng)))


def balanced_order(problem: Problem, rng: random.Random) -> list[Slot]:
    """Shuffle all slots such that every prefix contains nearly the same fraction of every partition.

    The n-th of a partition's m slots is placed at the fraction (n - 1/2) / m of the order; ties are in random order.

    Args:
        problem: The slots and the blocks.
        rng: The source of randomness.
    """
    partitions = partition_of(problem.space.supernet.slots, problem.layers, problem.spec.pruning.blocks)
    members = [[s for s in partitions if partitions[s] == p] for p in sorted(set(partitions.values()))]
    places: dict[Slot, tuple[float, float]] = {}
    for slots in members:
        rng.shuffle(slots)
        places |= {slot: ((n + 0.5) / len(slots), rng.random()) for n, slot in enumerate(slots)}
    return sorted(places, key=lambda slot: places[slot])


def _prune(problem: Problem, order: Iterable[Slot]) -> Architecture:
    """Remove slots in order, following the rules of PrunePEFT's rounds."""
    space, budget, settings = problem.space, problem.budget, problem.spec.pruning
    check_holds_slot(space, budget)
    per_round = settings.remove or slots_per_round(space, budget, settings.rounds)
    architecture = space.supernet
    for index in range(1, settings.rounds + 1):
        remaining = [slot for slot in order if slot in architecture]
        most = None if index == settings.rounds else per_round
        architecture = architecture.without(slots_to_remove(remaining, architecture, space, budget, most))
    return architecture


def no_pruning(problem: Problem, _options: NoOptions) -> Settled:
    """Return the whole supernet, which exceeds the budget, as a reference."""
    return Settled("no-pruning", problem.space.supernet)


RANDOM_PRUNING = MethodInfo("PrunePEFT's rounds with uniformly random removal; trains nothing", random_pruning)
RANDOM_PRUNING_BALANCED = MethodInfo(
    "PrunePEFT's rounds with random removal, equally from each partition", random_pruning_balanced
)
NO_PRUNING = MethodInfo("the supernet, which exceeds the budget", no_pruning, reference=True)
