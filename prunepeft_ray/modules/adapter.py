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
from prunepeft_ray.modules.initialisation import paper_initialisation
from prunepeft_ray.modules.module_type import MODULE_TYPES, ModuleType


class Bottleneck(nn.Module):
    """``up(relu(down(h)))``: a projection from the hidden width to the bottleneck and back.

    Args:
        width: Width of the hidden state.
        size: Width of the bottleneck.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, size)
        self.up = nn.Linear(size, width)
        # starts as the identity (Houlsby et al. 2019: close to it), with the up-projection exactly zero as in LoRA
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
        bottleneck: Computes the update.
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
    """A feed-forward network with a parallel bottleneck on its input, whose update is added to its output.

    A serial adapter after the FFN of the same layer sees the FFN's own output, without this update.

    Args:
        base_layer: The FFN, or its last part: the one that adds the residual, which is the FFN's input.
        bottleneck: Computes the update.
        scale: Factor on the update.
    """

    def __init__(self, base_layer: nn.Module, bottleneck: Bottleneck, scale: float) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck = bottleneck
        self.scale = scale

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Return the FFN's output, with the update added before the residual sum and the norm.

        Args:
            hidden: The FFN's input, shape (batch, tokens, width); if ``residual`` is given, the input of its last part.
            residual: The FFN's input, if only its last part is wrapped.
        """
        output: torch.Tensor
        if residual is None:
            output = self.base_layer(hidden) + self.scale * self.bottleneck(hidden)
        else:
            # the base layer sums output and residual, so the update may be added to either
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
