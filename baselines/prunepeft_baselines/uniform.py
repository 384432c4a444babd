"""The same module in every layer: common practice without a search."""

from __future__ import annotations

from pydantic import Field

from prunepeft_baselines.settled import Settled
from prunepeft_ray import Architecture, Config, InputError, MethodInfo, Module, NoOptions, Problem, Slot


class RankOptions(Config):
    """Settings of LoRA with a fixed rank."""

    rank: int = Field(ge=1, description="the rank in every layer")


def uniform_architecture(problem: Problem, kind: str, module_type: str, name: str) -> Architecture:
    """Fill one slot kind in every layer with modules of the same size, the largest that fits the budget.

    Args:
        problem: The layers, the costs and the budget; its space need not contain the kind.
        kind: The slot kind.
        module_type: The type of the modules.
        name: The method's name, for error messages.

    Raises:
        InputError: If not even size 1 fits.
    """
    costs = [problem.cost(slot, module_type) for slot in _slots(problem, kind)]
    per_size, fixed = sum(cost.per_size for cost in costs), sum(cost.fixed for cost in costs)
    size = (problem.budget - fixed) // per_size
    if size < 1:
        raise InputError(
            f"method '{name}': a budget of {problem.budget:,} parameters is too small: size 1 in every layer needs "
            f"{per_size + fixed:,}"
        )
    return _filled(problem, kind, Module(module_type, size))


def lora_rank(problem: Problem, options: RankOptions) -> Settled:
    """Return LoRA of a given rank in every layer, whatever the budget: one point of a sweep over ranks.

    Args:
        problem: The layers; its space need not contain PA slots.
        options: The rank.
    """
    return Settled("lora-rank", _filled(problem, "PA", Module("lora", options.rank)))


def _slots(problem: Problem, kind: str) -> list[Slot]:
    return [Slot(layer, kind) for layer in range(problem.layers)]


def _filled(problem: Problem, kind: str, module: Module) -> Architecture:
    return Architecture.of(dict.fromkeys(_slots(problem, kind), module))


def _info(name: str, kind: str, module_type: str, description: str) -> MethodInfo:
    def build(problem: Problem, _options: NoOptions) -> Settled:
        return Settled(name, uniform_architecture(problem, kind, module_type, name))

    return MethodInfo(description, build)


UNIFORM_LORA = _info(
    "uniform-lora", "PA", "lora", "LoRA with the same rank in every layer, as large as the budget allows"
)
UNIFORM_DORA = _info(
    "uniform-dora", "PA", "dora", "DoRA with the same rank in every layer, as large as the budget allows"
)
UNIFORM_ADAPTER = _info(
    "uniform-adapter", "SA", "pfeiffer", "an adapter of the same size in every layer, as large as the budget allows"
)
LORA_RANK = MethodInfo(
    "LoRA with a given rank in every layer, whatever the budget", lora_rank, RankOptions, "rank", reference=True
)
