"""Mean absolute gradient (paper, Table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunepeft_ray.criteria.base import Criterion, register

if TYPE_CHECKING:
    from torch import Tensor


def _of_step(_weights: list[Tensor], gradients: list[Tensor]) -> Sequence[Tensor]:
    import torch

    return torch._foreach_norm(gradients, 1)


GRADIENT = register(
    Criterion(
        name="gradient",
        focus="backward",
        formula="mean(|dL/dw|)",
        prunes="small",
        of_step=_of_step,
    )
)
