"""Options of the searches with Optuna's samplers."""

from __future__ import annotations

from pydantic import Field

from prunepeft_ray import Config


class OptunaOptions(Config):
    """Settings of a search with an Optuna sampler."""

    batch: int = Field(4, ge=1, description="candidates proposed together, before any of their results is known")
    startup: int | None = Field(
        None,
        ge=2,
        description="initial uniformly random architectures; default: a third of the evaluations, up to Optuna's 10; "
        "for NSGA-II, whose first generation they form, a quarter, up to Optuna's 50",
    )
    tries: int = Field(
        10, ge=1, description="proposals that may be rejected as over budget or repeated before a random one is used"
    )
