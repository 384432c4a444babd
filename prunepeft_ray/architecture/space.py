"""The search space: every slot of the supernet, its module, and what that module costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prunepeft_ray.architecture.architecture import Architecture
from prunepeft_ray.architecture.slots import Module, Slot


@dataclass(frozen=True)
class ModuleCost:
    """Parameters of a module as a function of its size: ``per_size * size + fixed``.

    LoRA, DoRA, adapters and prefixes all have this form.
    """

    per_size: int
    fixed: int = 0

    def parameters(self, size: int) -> int:
        """Return the exact number of parameters for a size (rank, bottleneck or number of vectors)."""
        return self.per_size * size + self.fixed


@dataclass(frozen=True)
class Space:
    """The slots and modules that a method may choose from.

    Args:
        layers: Number of layers of the backbone.
        supernet: The architecture with every slot filled.
        costs: What the module of each slot costs.
    """

    layers: int
    supernet: Architecture
    costs: Mapping[Slot, ModuleCost]

    def slot_parameters(self, slot: Slot, module: Module | None = None) -> int:
        """Return the number of parameters of a slot, filled with the supernet's module unless another is given."""
        return self.costs[slot].parameters((module or self.supernet[slot]).size)

    def parameters(self, architecture: Architecture) -> int:
        """Return the exact number of PEFT parameters of an architecture, equal to torch's count.

        Raises:
            KeyError: If the architecture fills a slot that the space does not have.
        """
        return sum(self.slot_parameters(slot, module) for slot, module in architecture)
