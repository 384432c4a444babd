"""How many slots a pruning round removes, and which (paper, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable

from prunepeft_ray.architecture import Architecture, Slot, Space


def slots_per_round(space: Space, budget: int, rounds: int) -> int:
    """The paper's k where it is not given: what must go, at the mean cost of a slot, spread over the rounds.

    Args:
        space: The space, whose supernet the search starts from.
        budget: Most parameters allowed.
        rounds: Number of rounds.

    Returns:
        ``ceil(ceil((P0 - B) / mean cost) / rounds)``, at least 1.
    """
    supernet = space.parameters(space.supernet)
    surplus = max(0, supernet - budget)
    slots = -(-surplus * len(space.supernet) // supernet)
    return max(1, -(-slots // rounds))


def slots_to_remove(
    order: Iterable[Slot], architecture: Architecture, space: Space, budget: int, most: int | None
) -> list[Slot]:
    """Take slots in order until the rest fits the budget, or enough have been taken.

    No more goes than must: where slots differ in size, the last one may free more than was missing, and what was
    taken before it and fits again is kept after all, the least prunable first. The last slot that fits the budget by
    itself is passed over: without it nothing could be kept.

    Args:
        order: The architecture's slots, those to remove first in front.
        architecture: The current architecture.
        space: Knows what slots cost.
        budget: Most parameters allowed.
        most: Most slots to remove; None for as many as it takes.
    """
    costs = {slot: space.slot_parameters(slot, module) for slot, module in architecture}
    parameters = sum(costs.values())
    small = {slot for slot, cost in costs.items() if cost <= budget}
    removed: list[Slot] = []
    for slot in order:
        if parameters <= budget or len(removed) == most:
            break
        if small == {slot}:
            continue
        removed.append(slot)
        small.discard(slot)
        parameters -= costs[slot]
    if parameters <= budget:
        for slot in reversed(removed):
            if parameters + costs[slot] <= budget:
                removed.remove(slot)
                parameters += costs[slot]
    return removed
