"""Serial bottleneck adapters: after the FFN (Pfeiffer et al. 2021), or after attention and FFN (Houlsby et al. 2019).

They sit inside the residual, before the sum and the layer norm; the non-linearity is ReLU.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from prunepeft_ray.architecture import ModuleCost
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.modules.initialise import paper_initialisation
from prunepeft_ray.modules.module_type import MODULE_TYPES, ModuleType


class Bottleneck(nn.Module):
    """``up(relu(down(h)))``: from width to bottleneck and back.

    Args:
        width: Width of the hidden state.
        size: Bottleneck.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, size)
        self.up = nn.Linear(size, width)
        # near the identity at the start, as in Houlsby et al. 2019, with the up-projection exactly zero as in LoRA
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map hidden states of shape (batch, tokens, width) to their update, of the same shape."""
        update: torch.Tensor = self.up(F.relu(self.down(hidden)))
        return update


class SerialAdapter(nn.Module):
    """A backbone module followed by a bottleneck whose update is added to its output.

    Args:
        base_layer: The module whose output is adapted.
        bottleneck: The bottleneck.
    """

    def __init__(self, base_layer: nn.Module, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck = bottleneck

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the base module's output plus the bottleneck's update of it."""
        output: torch.Tensor = self.base_layer(hidden)
        adapted: torch.Tensor = output + self.bottleneck(output)
        return adapted


def _wrap(base: nn.Module, width: int, size: int, settings: ModulesConfig) -> nn.Module:
    bottleneck = Bottleneck(width, size)
    if settings.init == "paper":
        paper_initialisation(bottleneck.down.weight, bottleneck.up.weight)
    return SerialAdapter(base, bottleneck)


def _update(layer: nn.Module) -> tuple[nn.Module, float]:
    assert isinstance(layer, SerialAdapter)
    return layer.bottleneck, 1.0


def _cost(width_in: int, width_out: int) -> ModuleCost:
    return ModuleCost(width_in + width_out + 1, width_out)


MODULE_TYPES.register("pfeiffer", ModuleType("SA", "adapter", ("ffn_output",), _cost, _wrap, _update))
MODULE_TYPES.register(
    "houlsby", ModuleType("SA", "2 adapters", ("attention_output", "ffn_output"), _cost, _wrap, _update)
)
