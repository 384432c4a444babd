"""Optuna's samplers (Akiba et al. 2019) as search methods, over one on/off switch per slot."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from baselines.candidates import CandidateSearch
from prunepeft_ray import Config, MethodInfo, Problem


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


def _builder(name: str) -> Callable[[Problem, OptunaOptions], CandidateSearch]:
    def build(problem: Problem, options: OptunaOptions) -> CandidateSearch:
        # Optuna is slow to import, and listing methods must not wait for it
        from baselines.optuna_study import optuna_search

        return optuna_search(name, problem, options)

    return build


OPTUNA_TPE = MethodInfo(
    "Optuna's tree-structured Parzen estimator: metric and parameters", _builder("optuna-tpe"), OptunaOptions
)
OPTUNA_NSGA2 = MethodInfo(
    "Optuna's NSGA-II, a genetic algorithm: metric and parameters", _builder("optuna-nsga2"), OptunaOptions
)
OPTUNA_GP = MethodInfo("Optuna's Gaussian process: metric and parameters", _builder("optuna-gp"), OptunaOptions)
