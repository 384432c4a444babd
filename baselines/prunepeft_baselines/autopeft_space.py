"""The two spaces that AutoPEFT can search, each encoded as vectors of integers."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Collection
from functools import cached_property
from itertools import accumulate, product
from math import comb, prod

from prunepeft_baselines.sampling import FeasibleSampler
from prunepeft_ray import Architecture, InputError, Module, Problem, Slot

Code = tuple[int, ...]

KINDS = {"SA": "pfeiffer", "PF": "parallel", "PT": "prefix"}
"""The modules of AutoPEFT's own space."""
ABSENT = 10
MAX_TRIES = 2000


class Coding(ABC):
    """A space whose architectures are encoded as vectors of choices, with one code per architecture.

    Args:
        problem: Backbone and budget.
    """

    choices: tuple[int, ...]
    """Number of values at each position of a code."""
    size: int
    """Upper bound on the number of valid codes."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @abstractmethod
    def architecture(self, code: Code) -> Architecture:
        """Return the architecture of a valid code."""

    @abstractmethod
    def parameters(self, code: Code) -> int:
        """Return the exact number of parameters of a valid code."""

    @abstractmethod
    def valid(self, code: Code) -> bool:
        """Whether a code of the right length may be evaluated."""

    @abstractmethod
    def draw(self, rng: random.Random) -> Code:
        """Draw uniformly among the valid codes within budget."""

    @abstractmethod
    def unit(self, code: Code) -> tuple[float, ...]:
        """Return the point of the unit cube that represents a code for surrogates."""

    @abstractmethod
    def neighbours(self, code: Code, rng: random.Random) -> list[Code]:
        """Return the valid codes that are one change away from a valid code.

        Args:
            code: A valid code.
            rng: The source of randomness for arbitrary choices.
        """

    def initial(self, n: int, rng: random.Random) -> list[Code]:
        """Draw distinct codes for the initial design.

        Args:
            n: Number of codes; fewer are returned if there are not enough.
            rng: The source of randomness.
        """
        return self.unseen(n, rng, ())

    def unseen(self, n: int, rng: random.Random, seen: Collection[Code]) -> list[Code]:
        """Draw distinct valid codes within budget that have not been seen.

        Args:
            n: Number of codes; fewer are returned if the space seems to be exhausted.
            rng: The source of randomness.
            seen: Valid codes to exclude.
        """
        drawn: dict[Code, None] = {}
        for _ in range(min(n, self.size - len(seen))):
            tries = (self.draw(rng) for _ in range(MAX_TRIES))
            found = next((code for code in tries if code not in drawn and code not in seen), None)
            if found is None:
                break
            drawn[found] = None
        return list(drawn)


class AlignedCoding(Coding):
    """The space that all methods share: one switch per slot of the supernet, limited by the budget.

    A neighbour fills or empties one slot; if this would exceed the budget, another slot is emptied to make room.
    Without such exchanges, a search could not move along the boundary of the budget, where most good architectures are.

    Args:
        problem: The space and the budget.

    Raises:
        InputError: If no slot fits the budget.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._slots = problem.space.supernet.slots
        self._modules = dict(problem.space.supernet)
        self._costs = tuple(problem.space.slot_parameters(slot) for slot in self._slots)
        self._sampler = FeasibleSampler(problem.space, problem.budget)
        self.choices = (2,) * len(self._slots)
        self.size = self._sampler.count

    def architecture(self, code: Code) -> Architecture:
        """Return the architecture of a code."""
        return Architecture.of(
            {slot: self._modules[slot] for slot, filled in zip(self._slots, code, strict=True) if filled}
        )

    def code(self, architecture: Architecture) -> Code:
        """Return the code of an architecture of the space."""
        return tuple(int(slot in architecture) for slot in self._slots)

    def parameters(self, code: Code) -> int:
        """Return the exact number of parameters of a code."""
        return sum(cost for cost, filled in zip(self._costs, code, strict=True) if filled)

    def valid(self, code: Code) -> bool:
        """Whether a code fills at least one slot and is within budget."""
        return any(code) and self.parameters(code) <= self.problem.budget

    def draw(self, rng: random.Random) -> Code:
        """Draw uniformly among the valid codes."""
        return self.code(self._sampler.sample(rng))

    def unit(self, code: Code) -> tuple[float, ...]:
        """Return zeros and ones."""
        return tuple(map(float, code))

    def neighbours(self, code: Code, rng: random.Random) -> list[Code]:
        """Return the valid codes with one slot filled, emptied or swapped."""
        used = self.parameters(code)
        found = []
        for place in range(len(code)):
            flipped = _set(code, place, 1 - code[place])
            if flipped[place] and used + self._costs[place] > self.problem.budget:
                least = used + self._costs[place] - self.problem.budget
                room = [i for i, filled in enumerate(code) if filled and self._costs[i] >= least]
                if not room:
                    continue
                flipped = _set(flipped, rng.choice(room), 0)
            if any(flipped):
                found.append(flipped)
        return found


class OwnCoding(Coding):
    """AutoPEFT's own space (Zhou et al. 2024, Section 3): three module sizes shared by all layers that are on.

    The sizes of serial adapter, parallel adapter and prefix are d / 2^k for k from 0 to 8, with d the hidden size, 1
    for k = 9, and absent for k = 10; only the first of equal sizes is kept. Codes without a layer or without a module
    are not architectures.

    Args:
        problem: Backbone and budget.
        bounded: Whether codes over budget are invalid, rather than candidates for the Pareto front.

    Raises:
        InputError: If no architecture of this space fits the budget.
    """

    def __init__(self, problem: Problem, bounded: bool = False) -> None:
        super().__init__(problem)
        self._bounded = bounded
        levels = {max(1, problem.hidden >> k): k for k in reversed(range(ABSENT - 1))}
        levels.setdefault(1, ABSENT - 1)
        self._sizes = (*sorted(levels, reverse=True), 0)
        self._positions = (*(levels[size] / ABSENT for size in self._sizes[:-1]), 1.0)
        self.choices = (len(self._sizes),) * len(KINDS) + (2,) * problem.layers
        self.size = prod(self.choices)
        self._costs = [[self._column(kind, size) for size in self._sizes] for kind in KINDS]
        if not self._ways:
            smallest = min(min(self._layer_costs(sizes)) for sizes in self._size_codes)
            raise InputError(
                f"method 'autopeft': a budget of {problem.budget:,} parameters is too small for its own space: "
                f"the smallest architecture has {smallest:,}"
            )

    def _column(self, kind: str, size: int) -> list[int]:
        """Return the cost of a module of that size in every layer."""
        cost, layers = self.problem.cost, range(self.problem.layers)
        return [cost(Slot(layer, kind), KINDS[kind]).parameters(size) if size else 0 for layer in layers]

    @property
    def _size_codes(self) -> list[Code]:
        levels = range(len(self._sizes))
        return [sizes for sizes in product(levels, repeat=len(KINDS)) if any(self._sizes[k] for k in sizes)]

    def _layer_costs(self, sizes: Code) -> list[int]:
        return [sum(costs) for costs in zip(*(self._costs[i][k] for i, k in enumerate(sizes)), strict=True)]

    def architecture(self, code: Code) -> Architecture:
        """Return the architecture of a valid code."""
        sizes, layers = code[: len(KINDS)], code[len(KINDS) :]
        modules = {
            k: Module(t, self._sizes[s]) for (k, t), s in zip(KINDS.items(), sizes, strict=True) if self._sizes[s]
        }
        return Architecture.of(
            {Slot(layer, kind): module for layer, on in enumerate(layers) if on for kind, module in modules.items()}
        )

    def parameters(self, code: Code) -> int:
        """Return the exact number of parameters of a code."""
        costs = self._layer_costs(code[: len(KINDS)])
        return sum(cost for cost, on in zip(costs, code[len(KINDS) :], strict=True) if on)

    def valid(self, code: Code) -> bool:
        """Whether a code has a layer and a module, and is within budget where the space is bounded."""
        some = any(self._sizes[k] for k in code[: len(KINDS)]) and any(code[len(KINDS) :])
        return some and not (self._bounded and self.parameters(code) > self.problem.budget)

    def initial(self, n: int, rng: random.Random) -> list[Code]:
        """Draw distinct codes for the initial design.

        In an unbounded space, every second code is drawn from the whole space. AutoPEFT draws all of them this way, but
        then hardly any would be within a small budget.

        Args:
            n: Number of codes; fewer are returned if there are not enough.
            rng: The source of randomness.
        """
        if self._bounded:
            return super().initial(n, rng)
        drawn: dict[Code, None] = {}
        while len(drawn) < n:
            within = self.unseen(1, rng, drawn) if len(drawn) % 2 == 0 else []
            drawn |= dict.fromkeys(within or [self._draw_any(rng)])
        return list(drawn)

    def _draw_any(self, rng: random.Random) -> Code:
        while not self.valid(code := tuple(rng.randrange(count) for count in self.choices)):
            pass
        return code

    def draw(self, rng: random.Random) -> Code:
        """Draw uniformly among the valid codes within budget."""
        layers = range(self.problem.layers)
        while True:
            sizes, count = rng.choices(list(self._ways), cum_weights=self._cumulative)[0]
            on = set(rng.sample(layers, count))
            code = sizes + tuple(int(layer in on) for layer in layers)
            if self.parameters(code) <= self.problem.budget:
                return code

    @cached_property
    def _ways(self) -> dict[tuple[Code, int], int]:
        """Number of choices of layers, for all sizes and numbers of layers that can be within budget."""
        ways = {}
        for sizes in self._size_codes:
            for count, cost in enumerate(accumulate(sorted(self._layer_costs(sizes))), 1):
                if cost <= self.problem.budget:
                    ways[sizes, count] = comb(self.problem.layers, count)
        return ways

    @cached_property
    def _cumulative(self) -> list[int]:
        return list(accumulate(self._ways.values()))

    def unit(self, code: Code) -> tuple[float, ...]:
        """Return k / 10 for the sizes, and zeros and ones for the layers."""
        sizes = tuple(self._positions[k] for k in code[: len(KINDS)])
        return sizes + tuple(map(float, code[len(KINDS) :]))

    def neighbours(self, code: Code, rng: random.Random) -> list[Code]:  # noqa: ARG002
        """Return the valid codes with one size changed, or one layer switched."""
        others = [_set(code, i, v) for i, count in enumerate(self.choices) for v in range(count) if v != code[i]]
        return [other for other in others if self.valid(other)]


def _set(code: Code, place: int, value: int) -> Code:
    return (*code[:place], value, *code[place + 1 :])
