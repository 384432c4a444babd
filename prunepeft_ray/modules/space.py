"""The supernet's space for a backbone: its slots and their costs."""

from __future__ import annotations

from prunepeft_ray.architecture import Architecture, Module, ModuleCost, Slot, Space
from prunepeft_ray.backbones import Backbone
from prunepeft_ray.config import SpaceConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.modules.module_type import MODULE_TYPES


def build_space(config: SpaceConfig, backbone: Backbone) -> Space:
    """Build the supernet's space (paper, Section 3.1).

    Args:
        config: Slot kinds, module types and sizes.
        backbone: The backbone, whose widths determine the costs.

    Raises:
        InputError: If a module type is unknown or does not fill slots of that kind, or a list of sizes does not have
            exactly one size per layer.
    """
    modules: dict[Slot, Module] = {}
    costs: dict[Slot, ModuleCost] = {}
    for kind in config.kinds:
        module_type, key = config.module(kind)
        _check_fills(module_type, kind)
        for layer, size in enumerate(_per_layer(f"space.{key}", getattr(config, key), backbone.layers)):
            slot = Slot(layer, kind)
            modules[slot] = Module(module_type, size)
            costs[slot] = module_cost(backbone, slot, module_type)
    return Space(backbone.layers, Architecture.of(modules), costs)


def _check_fills(module_type: str, kind: str) -> None:
    fitting = [name for name in MODULE_TYPES if _fills(name, kind)]
    if MODULE_TYPES[module_type].kind != kind:
        raise InputError(f"space: '{module_type}' does not fill {kind} slots; these do: {', '.join(fitting)}")
    if module_type not in fitting:
        raise InputError(f"space: criteria cannot be collected in '{module_type}'; they can in: {', '.join(fitting)}")


def _fills(module_type: str, kind: str) -> bool:
    found = MODULE_TYPES[module_type]
    return found.kind == kind and found.update is not None


def module_cost(backbone: Backbone, slot: Slot, module_type: str) -> ModuleCost:
    """Return the cost of a module type in a slot, summed over its sites."""
    found = MODULE_TYPES[module_type]
    names = [name for site in found.sites for name in backbone.parts(slot.layer, site)]
    sites = [found.cost(getattr(*backbone.site(slot.layer, n)), backbone.width(slot.layer, n)) for n in names]
    return ModuleCost(sum(cost.per_size for cost in sites), sum(cost.fixed for cost in sites))


def _per_layer(key: str, sizes: int | tuple[int, ...], layers: int) -> tuple[int, ...]:
    if isinstance(sizes, int):
        return (sizes,) * layers
    if len(sizes) != layers:
        raise InputError(f"{key}: got {len(sizes)} sizes, but the backbone has {layers} layers")
    return sizes
