"""The definition and the registry of pruning criteria."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prunepeft_ray.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Criterion:
    """A pruning criterion (paper, Table 1).

    Exactly one of the four functions is given; it defines what is measured, and when.

    Args:
        name: The criterion's id, such as ``"gradient"``.
        focus: What it is based on: feature characteristics, the forward pass or the backward pass.
        formula: Human-readable formula of Theta.
        prunes: Whether slots with a small or with a large Theta are pruned first.
        scale_free: Whether Theta is on the same scale for slots of all kinds. If not, raw values of different kinds
            are only compared when ``pruning.compare`` is ``raw``.
        of_weights: Computes Theta after the last step, from all weights of a slot as one vector and the threshold t.
        of_step: At every optimiser step, computes one sum over elements per parameter tensor, from weights and
            gradients; Theta is the mean over the slot's weights, averaged over steps.
        of_output: Computes a sum over the width of a module's own output (its update) per token, shape
            (batch, tokens); Theta is the mean over the elements of all tokens that are not padding.
        of_output_gradient: Computes a signed sum per token from the output and the loss's gradient with respect to it,
            shape (batch, tokens); Theta is the absolute sum over the slot and the batch, averaged over steps.
    """

    name: str
    focus: str
    formula: str
    prunes: Literal["small", "large"]
    scale_free: bool = False
    of_weights: Callable[[Tensor, Tensor], Tensor] | None = None
    of_step: Callable[[list[Tensor], list[Tensor]], Sequence[Tensor]] | None = None
    of_output: Callable[[Tensor], Tensor] | None = None
    of_output_gradient: Callable[[Tensor, Tensor], Tensor] | None = None

    def prunability(self, theta: float) -> float:
        """Return Theta with the sign chosen so that larger means pruned sooner."""
        return -theta if self.prunes == "small" else theta


CRITERIA: Registry[Criterion] = Registry("criterion")


def register(criterion: Criterion) -> Criterion:
    """Register a criterion under its name."""
    return CRITERIA.register(criterion.name, criterion)
