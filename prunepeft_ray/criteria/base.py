"""What a criterion is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prunepeft_ray.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Criterion:
    """One pruning criterion (paper, Table 1).

    Exactly one of the four functions says what it measures, and when:

    Args:
        name: Its id, such as ``"gradient"``.
        focus: What it looks at: feature characteristics, forward or backward.
        formula: Theta in a few symbols, for people.
        prunes: Whether slots with a small or with a large Theta are pruned first.
        scale_free: Whether Theta of slots of different kinds are on one scale. If not, kinds are never set
            against each other by the raw value.
        of_weights: Theta from all weights of a slot as one vector and the threshold t, after the last step.
        of_step: Per parameter tensor a sum over its elements, from weights and gradients, at every optimiser step;
            Theta is the mean over the slot's weights, averaged over steps.
        of_output: Per token a sum over the width of a module's own output (its update), shape (batch, tokens); Theta
            is the mean over elements at tokens that are not padding.
        of_output_gradient: Per token a signed sum from the output and the loss's gradient by it, shape
            (batch, tokens); Theta is the absolute sum over the slot and the batch, averaged over steps.
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
        """Orient Theta so that larger means pruned sooner."""
        return -theta if self.prunes == "small" else theta


CRITERIA: Registry[Criterion] = Registry("criterion")


def register(criterion: Criterion) -> Criterion:
    """Make a criterion known by its name."""
    return CRITERIA.register(criterion.name, criterion)
