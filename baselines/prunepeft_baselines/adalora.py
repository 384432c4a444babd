"""AdaLoRA at the budget (Zhang et al. 2023), which allocates ranks during training."""

from __future__ import annotations

from prunepeft_baselines.settled import Settled
from prunepeft_baselines.uniform import uniform_architecture
from prunepeft_ray import Architecture, MethodInfo, Module, NoOptions, Problem


def adalora_architecture(problem: Problem) -> Architecture:
    """Fill all layers with AdaLoRA, with as many ranks in total as the budget allows.

    The sizes determine the total number of ranks, not which layers end up with them. Since one rank in every layer is
    several percent of a small budget, the remainder after a uniform rank is used for single ranks in the last layers.

    Args:
        problem: The layers, the costs and the budget; its space need not contain PA slots.

    Raises:
        InputError: If not even size 1 in every layer fits.
    """
    filled = dict(uniform_architecture(problem, "PA", "adalora", "adalora"))
    for slot, module in sorted(filled.items(), reverse=True):
        larger = Architecture.of({**filled, slot: Module(module.type, module.size + 1)})
        if problem.fits(larger):
            filled = dict(larger)
    return Architecture.of(filled)


def _build(problem: Problem, _options: NoOptions) -> Settled:
    return Settled("adalora", adalora_architecture(problem))


ADALORA = MethodInfo("AdaLoRA in all layers, which allocates ranks during training: no search", _build)
