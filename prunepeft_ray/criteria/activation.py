"""Mean absolute output of the module itself (paper, Table 1)."""

import torch

from prunepeft_ray.criteria.base import Criterion, register

ACTIVATION = register(
    Criterion(
        name="activation",
        focus="forward",
        formula="mean(|output|)",
        prunes="small",
        of_output=lambda output: torch.linalg.vector_norm(output, ord=1, dim=-1),
    )
)
