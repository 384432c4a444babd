"""The definition and the registry of PEFT module types."""

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
    """Distributes parameters among all modules of a type while they train, as AdaLoRA does.

    Its decisions may depend only on the modules' weights and gradients and on the step, so that all processes of a
    group make the same ones.
    """

    @property
    def within_size(self) -> bool:
        """Whether the modules together are down to the size that the architecture gives them."""

    @property
    def parameters(self) -> int:
        """Number of parameters that the modules still have."""

    def penalty(self) -> Tensor:
        """Return the penalty on the mean loss of a batch."""

    def after_step(self, step: int, total_steps: int) -> None:
        """Update the allocation after an optimiser step, while its gradients are still available.

        Args:
            step: 1-based number of the step.
            total_steps: Maximum number of steps of the job.
        """

    def state(self) -> dict[str, Any]:
        """Return the allocator's state, as tensors and plain data."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""


@dataclass(frozen=True)
class ModuleWork:
    """The multiplications of a module at one site, in multiply-adds of matrix products.

    Args:
        chain: Widths of a token's vector on its way through the module's trained matrices, from input to output.
        frozen: Per token, with weights of the base module that the module applies once more.
        per_pass: Per forward and backward pass, whatever the number of tokens.
        per_step: Per optimiser step.
    """

    chain: tuple[int, ...]
    frozen: int = 0
    per_pass: int = 0
    per_step: int = 0


def bottleneck_work(widths: tuple[int, int], size: int, _settings: ModulesConfig) -> ModuleWork:
    """Return the work of a projection to the module's size and back."""
    return ModuleWork((widths[0], size, widths[1]))


@dataclass(frozen=True)
class ModuleType:
    """A type of PEFT module, such as LoRA.

    At each of its sites, it replaces a module of the backbone with a wrapper that keeps it as ``base_layer`` and adds
    an update to its output.

    Args:
        kind: The slot kind that it fills.
        label: Display name, such as ``"LoRA"``.
        sites: The sites in a layer that a slot's module covers.
        cost: Number of parameters at one site, from (base module, input and output width).
        wrap: Builds the wrapper from (base module, input and output width, size, settings).
        update: Returns, for a wrapper, the submodule whose output is the update, and the factor on it. None: there is
            no such submodule, so criteria cannot be collected.
        allocator: Builds the allocator that distributes parameters among the modules, from all wrappers and their sizes
            by name. None: every module keeps its size.
        reparametrise: Returns, for a wrapper, the network that generates its weights while it trains. None: the weights
            are trained directly.
        work: The module's multiplications at one site, from (input and output width, size, settings), for the cost of a
            training. Default: those of a projection to the size and back.
    """

    kind: str
    label: str
    sites: tuple[str, ...]
    cost: Callable[[nn.Module, tuple[int, int]], ModuleCost]
    wrap: Callable[[nn.Module, tuple[int, int], int, ModulesConfig], nn.Module]
    update: Callable[[nn.Module], tuple[nn.Module, float]] | None = None
    allocator: Callable[[Mapping[str, tuple[nn.Module, int]]], Allocator] | None = None
    reparametrise: Callable[[nn.Module], Reparametrisation] | None = None
    work: Callable[[tuple[int, int], int, ModulesConfig], ModuleWork] = bottleneck_work


MODULE_TYPES: Registry[ModuleType] = Registry("module type")
