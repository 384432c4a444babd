"""First-order change of the loss when the module is removed (Molchanov et al. 2016 and 2019).

This is abs(dL/dg) at g = 1 for a gate g that multiplies the module's output. Its unit is that of the loss, so slots of
any kind and depth can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.criteria.base import Criterion, register

if TYPE_CHECKING:
    from torch import Tensor


def _of_output_gradient(output: Tensor, gradient: Tensor) -> Tensor:
    import torch

    found: Tensor = torch.linalg.vecdot(output, gradient.to(output.dtype), dim=-1)
    return found


GATE = register(
    Criterion(
        name="gate",
        focus="backward",
        formula="|sum(output dL/d(output))|",
        prunes="small",
        scale_free=True,
        of_output_gradient=_of_output_gradient,
    )
)
