"""AdaLoRA at the budget (Zhang et al. 2023): where the ranks go is found out in the training itself."""

from __future__ import annotations

from baselines.fixed import FixedMethod
from prunepeft_ray import Architecture, InputError, MethodInfo, Module, NoOptions, Problem, Slot


def _build(problem: Problem, _options: NoOptions) -> FixedMethod:
    slots = [Slot(layer, "PA") for layer in range(problem.layers)]
    costs = [problem.cost(slot, "adalora") for slot in slots]
    fixed, per_rank = sum(cost.fixed for cost in costs), sum(cost.per_size for cost in costs)
    rank = (problem.budget - fixed) // per_rank
    if rank < 1:
        raise InputError(
            f"method 'adalora': the budget of {problem.budget:,} parameters is below AdaLoRA of rank 1 in all layers, "
            f"which has {fixed + per_rank:,}: give a larger budget"
        )
    return FixedMethod("adalora", Architecture.of({slot: Module("adalora", rank) for slot in slots}))


ADALORA = MethodInfo("AdaLoRA in all layers, which shares its ranks out while it trains: no search", _build)
