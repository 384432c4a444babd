"""PEFT modules (LoRA, DoRA, AdaLoRA, adapters, prefixes, whole layers): insertion, removal, saving and loading.

A new module type takes one file that registers a :class:`ModuleType` and one line here.
"""

from prunepeft_ray.modules import adalora, adapter, full, lora, prefix
from prunepeft_ray.modules.adapted import AdaptedBackbone, InsertedSite, check_fits
from prunepeft_ray.modules.module_type import MODULE_TYPES, Allocator, ModuleType, ModuleWork
from prunepeft_ray.modules.saving import (
    AdapterConfig,
    damaged_adapter,
    read_adapter_config,
    read_adapter_weights,
    save_adapter,
)
from prunepeft_ray.modules.space import build_space, module_cost

__all__ = [
    "MODULE_TYPES",
    "AdaptedBackbone",
    "AdapterConfig",
    "Allocator",
    "InsertedSite",
    "ModuleType",
    "ModuleWork",
    "adalora",
    "adapter",
    "build_space",
    "check_fits",
    "damaged_adapter",
    "full",
    "lora",
    "module_cost",
    "prefix",
    "read_adapter_config",
    "read_adapter_weights",
    "save_adapter",
]
