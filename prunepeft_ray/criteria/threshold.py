"""Share of weights below a threshold (paper, Table 1).

The threshold is a quantile of the absolute weights of all slots of the same kind, or a fixed value: see
:class:`prunepeft_ray.config.PruningConfig`.
"""

from prunepeft_ray.criteria.base import Criterion, register

THRESHOLD = register(
    Criterion(
        name="threshold",
        focus="feature characteristics",
        formula="mean(|w| < t)",
        prunes="large",
        of_weights=lambda weights, threshold: (weights.abs() < threshold).double().mean(),
    )
)
