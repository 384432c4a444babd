"""Full fine-tuning of whole layers; the first and the last one include what comes before and after the layers.

The backbone's memory may be shared by several processes and is never written to, so a copy is trained.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from prunepeft_ray.architecture import ModuleCost
from prunepeft_ray.backbones import WHOLE
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.modules.module_type import MODULE_TYPES, ModuleType


class Tuned(nn.Module):
    """A trainable copy that takes a module's place.

    Args:
        base_layer: The original module, which is left unchanged.
    """

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.tuned = copy.deepcopy(base_layer)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the copy."""
        return self.tuned(*args, **kwargs)


def _wrap(base: nn.Module, _widths: tuple[int, int], _size: int, _settings: ModulesConfig) -> nn.Module:
    return Tuned(base)


def _cost(base: nn.Module, _widths: tuple[int, int]) -> ModuleCost:
    return ModuleCost(0, sum(parameter.numel() for parameter in base.parameters()))


MODULE_TYPES.register("full", ModuleType(kind="FT", label="full tuning", sites=(WHOLE,), cost=_cost, wrap=_wrap))
