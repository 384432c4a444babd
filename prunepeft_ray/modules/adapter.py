"""Bottleneck adapters, serial or parallel.

Serial: after the FFN (Pfeiffer et al. 2021), or after attention and FFN (Houlsby et al. 2019). Parallel: beside the FFN
(He et al. 2022). They sit inside the residual, before the sum and the layer norm; the non-linearity is ReLU.
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


class ParallelAdapter(nn.Module):
    """A feed-forward network beside a bottleneck of its input, whose update is added to its output.

    An adapter after the FFN in the same layer reads the FFN's own output, without this update.

    Args:
        base_layer: The FFN, or its last part: the one that adds the residual, which is the FFN's input.
        bottleneck: The bottleneck.
        scale: What its output is multiplied by.
    """

    def __init__(self, base_layer: nn.Module, bottleneck: Bottleneck, scale: float) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck = bottleneck
        self.scale = scale

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Return what the FFN returns, with the update added to its output before residual sum and norm.

        Args:
            hidden: The FFN's input, shape (batch, tokens, width); with a residual, what the last part works on.
            residual: The FFN's input, where the last part alone is wrapped.
        """
        output: torch.Tensor
        if residual is None:
            output = self.base_layer(hidden) + self.scale * self.bottleneck(hidden)
        else:
            # the base sums output and residual: it does not matter which of them the update joins
            output = self.base_layer(hidden, residual + self.scale * self.bottleneck(residual))
        return output


def _bottleneck(width: int, size: int, settings: ModulesConfig) -> Bottleneck:
    bottleneck = Bottleneck(width, size)
    if settings.init == "paper":
        paper_initialisation(bottleneck.down.weight, bottleneck.up.weight)
    return bottleneck


def _wrap(base: nn.Module, widths: tuple[int, int], size: int, settings: ModulesConfig) -> nn.Module:
    return SerialAdapter(base, _bottleneck(widths[1], size, settings))


def _wrap_parallel(base: nn.Module, widths: tuple[int, int], size: int, settings: ModulesConfig) -> nn.Module:
    return ParallelAdapter(base, _bottleneck(widths[1], size, settings), settings.parallel_scale)


def _update(layer: nn.Module) -> tuple[nn.Module, float]:
    assert isinstance(layer, SerialAdapter)
    return layer.bottleneck, 1.0


def _parallel_update(layer: nn.Module) -> tuple[nn.Module, float]:
    assert isinstance(layer, ParallelAdapter)
    return layer.bottleneck, layer.scale


def _cost(_base: nn.Module, widths: tuple[int, int]) -> ModuleCost:
    return ModuleCost(sum(widths) + 1, widths[1])


MODULE_TYPES.register("pfeiffer", ModuleType("SA", "adapter", ("ffn_output",), _cost, _wrap, _update))
MODULE_TYPES.register(
    "houlsby", ModuleType("SA", "2 adapters", ("attention_output", "ffn_output"), _cost, _wrap, _update)
)
MODULE_TYPES.register(
    "parallel", ModuleType("PF", "parallel adapter", ("ffn",), _cost, _wrap_parallel, _parallel_update)
)
