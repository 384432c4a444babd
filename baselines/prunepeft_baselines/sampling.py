"""Exactly uniform sampling of architectures within a budget."""

from __future__ import annotations

import math
import random
from functools import cached_property

from prunepeft_ray import Architecture, Space, check_holds_slot

MAX_UNITS = 8192
"""Maximum number of units in which the budget is counted when sampling, to keep the tables small for any costs."""


class FeasibleSampler:
    """Draws uniformly among all architectures that fill a subset of a supernet's slots and fit a budget.

    Sampling is exact: a table holds the number of possible completions for every slot and remaining budget, and a
    random index is converted to the subset at that index. Costs are counted in units of their greatest common divisor.
    If this makes the table too large, a coarser grid is used; costs are rounded down so that no architecture is lost,
    and the few that do not fit after all are redrawn (Dyer 2003, "Approximate counting by dynamic programming").

    Args:
        space: The slots, their modules and their costs.
        budget: Maximum number of parameters of an architecture.

    Raises:
        InputError: If no slot fits the budget.
    """

    def __init__(self, space: Space, budget: int) -> None:
        check_holds_slot(space, budget)
        costs = {slot: space.slot_parameters(slot, module) for slot, module in space.supernet}
        self._space = space
        self._budget = min(budget, sum(costs.values()))
        self._slots = [slot for slot, cost in costs.items() if cost <= budget]
        self._costs = [costs[slot] for slot in self._slots]
        self._divisor = math.gcd(*self._costs)

    @cached_property
    def count(self) -> int:
        """Exact number of architectures within the budget, not counting the empty one."""
        # a polynomial whose coefficient at x^c counts the subsets of cost c, packed into one integer
        width = len(self._costs) + 1
        mask = (1 << width * (self._budget // self._divisor + 1)) - 1
        packed = 1
        for cost in self._costs:
            packed = (packed + (packed << width * (cost // self._divisor))) & mask
        # like casting out nines, which sums decimal digits, this sums the coefficients
        return packed % ((1 << width) - 1) - 1

    def sample(self, rng: random.Random) -> Architecture:
        """Draw one architecture; all are equally likely."""
        while True:
            architecture = self._at(rng.randrange(self._ways[0][-1]))
            if len(architecture) and self._space.parameters(architecture) <= self._budget:
                return architecture

    def distinct(self, rng: random.Random, n: int) -> list[Architecture]:
        """Draw distinct architectures, in random order; all sets of them are equally likely.

        Args:
            rng: The source of randomness.
            n: Number of architectures; fewer are returned if there are not enough.
        """
        drawn: dict[Architecture, None] = {}
        while len(drawn) < min(n, self.count):
            drawn[self.sample(rng)] = None
        return list(drawn)

    @cached_property
    def _grid(self) -> int:
        return self._divisor * max(1, -(-self._budget // (self._divisor * MAX_UNITS)))

    @cached_property
    def _ways(self) -> list[list[int]]:
        """For every slot and number of remaining grid units, how many subsets of this and all later slots fit."""
        ways = [[1] * (self._budget // self._grid + 1)]
        for cost in reversed(self._costs):
            rest, units = ways[-1], cost // self._grid
            ways.append(rest[:units] + [a + b for a, b in zip(rest[units:], rest, strict=False)])
        return ways[::-1]

    def _at(self, index: int) -> Architecture:
        """Return the subset at an index below the number of all subsets that fit on the grid."""
        left = self._budget // self._grid
        chosen = []
        for i, slot in enumerate(self._slots):
            without = self._ways[i + 1][left]
            if index >= without:
                index -= without
                left -= self._costs[i] // self._grid
                chosen.append(slot)
        return Architecture.of({slot: self._space.supernet[slot] for slot in chosen})
