"""Mean absolute output of the module itself (paper, Table 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.criteria.base import Criterion, register

if TYPE_CHECKING:
    from torch import Tensor


def _of_output(output: Tensor) -> Tensor:
    import torch

    found: Tensor = torch.linalg.vector_norm(output, ord=1, dim=-1)
    return found


ACTIVATION = register(
    Criterion(
        name="activation",
        focus="forward",
        formula="mean(|output|)",
        prunes="small",
        of_output=_of_output,
    )
)
