"""First-order Taylor term of each weight (paper, Table 1; SNIP, Lee et al. 2019)."""

import torch

from prunepeft_ray.criteria.base import Criterion, register

SENSITIVITY = register(
    Criterion(
        name="sensitivity",
        focus="backward",
        formula="mean(|w dL/dw|)",
        prunes="small",
        of_step=lambda weights, gradients: torch._foreach_norm(torch._foreach_mul(weights, gradients), 1),
    )
)
