"""Mean absolute gradient (paper, Table 1)."""

import torch

from prunepeft_ray.criteria.base import Criterion, register

GRADIENT = register(
    Criterion(
        name="gradient",
        focus="backward",
        formula="mean(|dL/dw|)",
        prunes="small",
        of_step=lambda weights, gradients: torch._foreach_norm(gradients, 1),
    )
)
