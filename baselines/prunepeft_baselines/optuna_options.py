"""Settings of the searches with Optuna's samplers."""

from __future__ import annotations

from pydantic import Field

from prunepeft_ray import Config


class OptunaOptions(Config):
    """Settings of a search by an Optuna sampler."""

    batch: int = Field(4, ge=1, description="candidates proposed together, before the results of any is known")
    startup: int | None = Field(
        None,
        ge=2,
        description="uniform architectures to start with; default: a third of the evaluations, at most Optuna's 10; "
        "NSGA-II, whose first generation they are: a quarter, at most Optuna's 50",
    )
    tries: int = Field(
        10, ge=1, description="proposals over budget or seen before that are refused before a uniform one is taken"
    )
