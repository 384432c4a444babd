"""What a type of PEFT module is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from prunepeft_ray.architecture import ModuleCost
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.modules.reparametrisation import Reparametrisation
from prunepeft_ray.registry import Registry


class Allocator(Protocol):
    """Shares parameters out among all modules of a type while they train, as AdaLoRA does.

    What it decides may depend on nothing but the modules' weights and gradients and the step, so every process of a
    group decides alike.
    """

    @property
    def within_size(self) -> bool:
        """Whether the modules have come down to the sizes that the architecture gives them, all together."""

    @property
    def parameters(self) -> int:
        """Number of parameters that the modules have left."""

    def penalty(self) -> Tensor:
        """Return what is added to the mean loss of a batch."""

    def after_step(self, step: int, total_steps: int) -> None:
        """Do what is to be done after an optimiser step, while its gradients are still there.

        Args:
            step: 1-based number of the step.
            total_steps: Steps that the job may take in all.
        """

    def state(self) -> dict[str, Any]:
        """Return all that it has learnt, as tensors and plain data."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""


@dataclass(frozen=True)
class ModuleType:
    """One type of PEFT module, such as LoRA.

    At each of its sites it replaces a module of the backbone by a wrapper that keeps it as ``base_layer`` and adds an
    update to its output.

    Args:
        kind: The slot kind that it fills.
        label: How people call it, such as ``"LoRA"``.
        sites: The sites in a layer that one slot's module covers.
        cost: Parameters at one site, from (base module, input and output width).
        wrap: Builds the wrapper from (base module, input and output width, size, settings).
        update: Returns, for a wrapper, the submodule whose output is the update, and what to multiply it by. None:
            there is no such submodule, and criteria cannot be collected.
        allocator: Builds what shares out parameters among the modules, from all wrappers and their sizes by name.
            None: every module keeps its size.
        reparametrise: Returns, for a wrapper, the network that makes its weights while they train. None: they train
            themselves.
    """

    kind: str
    label: str
    sites: tuple[str, ...]
    cost: Callable[[nn.Module, tuple[int, int]], ModuleCost]
    wrap: Callable[[nn.Module, tuple[int, int], int, ModulesConfig], nn.Module]
    update: Callable[[nn.Module], tuple[nn.Module, float]] | None = None
    allocator: Callable[[Mapping[str, tuple[nn.Module, int]]], Allocator] | None = None
    reparametrise: Callable[[nn.Module], Reparametrisation] | None = None


MODULE_TYPES: Registry[ModuleType] = Registry("module type")
