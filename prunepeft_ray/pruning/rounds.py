"""Pruning rounds: how many slots a round removes, and which (paper, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable

from prunepeft_ray.architecture import Architecture, Slot, Space


def slots_per_round(space: Space, budget: int, rounds: int) -> int:
    """Return the default of the paper's k: the number of slots to remove, by their mean cost, spread over the rounds.

    Args:
        space: The search space, whose supernet the search starts from.
        budget: Maximum number of parameters.
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
    """Choose slots to remove, in order, until the rest fits the budget or enough have been chosen.

    No more than necessary is removed: where slots differ in size, the last one may free more than required, and slots
    chosen before it that fit again are then kept after all, the least prunable first. The last remaining slot that fits
    the budget by itself is skipped, since nothing could be kept without it.

    Args:
        order: The architecture's slots, the ones to remove first at the front.
        architecture: The current architecture.
        space: The search space, with the costs of slots.
        budget: Maximum number of parameters.
        most: Maximum number of slots to remove; None for no limit.
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
