"""First-order change of the loss when the module is removed (Molchanov et al. 2016 and 2019).

As if the module's output were multiplied by a gate g: abs(dL/dg) at g = 1. The loss has one unit everywhere, so slots
of any kind and depth compare.
"""

import torch

from prunepeft_ray.criteria.base import Criterion, register

GATE = register(
    Criterion(
        name="gate",
        focus="backward",
        formula="|sum(output dL/d(output))|",
        prunes="small",
        scale_free=True,
        of_output_gradient=lambda output, gradient: torch.linalg.vecdot(output, gradient.to(output.dtype), dim=-1),
    )
)
