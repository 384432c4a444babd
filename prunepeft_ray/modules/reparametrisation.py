"""Weights that a small network generates during training, and that are kept without it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Reparametrisation:
    """Trains a network in place of the weights that it generates.

    Forward passes use the weights directly, so the network runs once per optimiser step, whatever the batch: before the
    step, the weights' gradients are propagated to the network; after it, the weights are regenerated. The weights, not
    the network, are what is counted, scored and saved.

    Args:
        network: Generates the weights, without inputs, in the order of ``weights``.
        weights: The module's own weights; they are generated immediately.
    """

    def __init__(self, network: nn.Module, weights: Sequence[nn.Parameter]) -> None:
        self.network = network
        self.weights = tuple(weights)
        self.regenerate()

    @torch.no_grad()
    def regenerate(self) -> None:
        """Recompute the weights from the network."""
        for weight, value in zip(self.weights, self.network(), strict=True):
            weight.copy_(value)

    def propagate_gradients(self, loss_scale: float = 1.0) -> None:
        """Compute the network's gradients from those of the weights.

        Args:
            loss_scale: Factor on the loss. It is removed from the weights' gradients here; the network's gradients keep
                it until the optimiser's scaler removes it.
        """
        own = list(self.network.parameters())
        given: list[Tensor | None] = [weight.grad for weight in self.weights]
        for parameter, gradient in zip(own, torch.autograd.grad(self.network(), own, given), strict=True):
            parameter.grad = gradient
        for weight in self.weights:
            if weight.grad is not None:
                weight.grad /= loss_scale
