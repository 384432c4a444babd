"""Mean squared weight (paper, Table 1)."""

from prunepeft_ray.criteria.base import Criterion, register

WEIGHT = register(
    Criterion(
        name="weight",
        focus="feature characteristics",
        formula="mean(w^2)",
        prunes="small",
        of_weights=lambda weights, threshold: weights.square().mean(),
    )
)
