"""Share of weights that are not zero (paper, Table 1)."""

from prunepeft_ray.criteria.base import Criterion, register

ZEROS = register(
    Criterion(
        name="zeros",
        focus="feature characteristics",
        formula="mean(w != 0)",
        prunes="small",
        of_weights=lambda weights, threshold: (weights != 0).double().mean(),
    )
)
