"""First-order Taylor term of each weight (paper, Table 1; SNIP, Lee et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunepeft_ray.criteria.base import Criterion, register

if TYPE_CHECKING:
    from torch import Tensor


def _of_step(weights: list[Tensor], gradients: list[Tensor]) -> Sequence[Tensor]:
    import torch

    return torch._foreach_norm(torch._foreach_mul(weights, gradients), 1)


SENSITIVITY = register(
    Criterion(
        name="sensitivity",
        focus="backward",
        formula="mean(|w dL/dw|)",
        prunes="small",
        of_step=_of_step,
    )
)
