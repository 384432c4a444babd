"""Weights that a small network makes while they train, and that are kept without it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Reparametrisation:
    """Trains a network in place of the weights that it makes.

    Forward passes use the weights as they are, so the network runs once per optimiser step, whatever the batch: before
    it, the weights' gradients are carried on to the network, and after it, the weights are made anew. What is counted,
    scored and saved are the weights.

    Args:
        network: Makes the weights, from nothing, in the order of ``weights``.
        weights: The module's own weights; set at once.
    """

    def __init__(self, network: nn.Module, weights: Sequence[nn.Parameter]) -> None:
        self.network = network
        self.weights = tuple(weights)
        self.make()

    @torch.no_grad()
    def make(self) -> None:
        """Make the weights anew from the network."""
        for weight, value in zip(self.weights, self.network(), strict=True):
            weight.copy_(value)

    def carry_gradients(self, loss_scale: float = 1.0) -> None:
        """Set the network's gradients from those of the weights.

        Args:
            loss_scale: What the loss was multiplied by: the network's gradients still are, which the optimiser's scaler
                sees to, the weights' no longer.
        """
        own = list(self.network.parameters())
        given: list[Tensor | None] = [weight.grad for weight in self.weights]
        for parameter, gradient in zip(own, torch.autograd.grad(self.network(), own, given), strict=True):
            parameter.grad = gradient
        for weight in self.weights:
            if weight.grad is not None:
                weight.grad /= loss_scale
