"""Optuna's samplers (Akiba et al. 2019) as search methods, with one on/off switch per slot."""

from __future__ import annotations

from collections.abc import Callable

from prunepeft_baselines.candidates import CandidateSearch
from prunepeft_baselines.optuna_options import OptunaOptions
from prunepeft_ray import MethodInfo, Problem


def _builder(name: str) -> Callable[[Problem, OptunaOptions], CandidateSearch]:
    def build(problem: Problem, options: OptunaOptions) -> CandidateSearch:
        # Optuna is slow to import, and listing methods should not have to wait for it
        from prunepeft_baselines.optuna_study import optuna_search

        return optuna_search(name, problem, options)

    return build


OPTUNA_TPE = MethodInfo(
    "Optuna's tree-structured Parzen estimator, for metric and parameters", _builder("optuna-tpe"), OptunaOptions
)
OPTUNA_NSGA2 = MethodInfo(
    "Optuna's NSGA-II, a genetic algorithm, for metric and parameters", _builder("optuna-nsga2"), OptunaOptions
)
OPTUNA_GP = MethodInfo("Optuna's Gaussian process, for metric and parameters", _builder("optuna-gp"), OptunaOptions)
