"""What a type of PEFT module is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from prunepeft_ray.architecture import ModuleCost
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.registry import Registry


@dataclass(frozen=True)
class ModuleType:
    """One type of PEFT module, such as LoRA.

    At each of its sites it replaces a module of the backbone by a wrapper that keeps it as ``base_layer`` and adds an
    update to its output.

    Args:
        kind: The slot kind that it fills.
        label: How people call it, such as ``"LoRA"``.
        sites: The sites in a layer that one slot's module covers.
        cost: Parameters at one site, from its input and output width.
        wrap: Builds the wrapper from (base module, input and output width, size, settings).
        update: Returns, for a wrapper, the submodule whose output is the update, and what to multiply it by.
    """

    kind: str
    label: str
    sites: tuple[str, ...]
    cost: Callable[[int, int], ModuleCost]
    wrap: Callable[[nn.Module, tuple[int, int], int, ModulesConfig], nn.Module]
    update: Callable[[nn.Module], tuple[nn.Module, float]]


MODULE_TYPES: Registry[ModuleType] = Registry("module type")
