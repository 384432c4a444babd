"""AdaLoRA at the budget (Zhang et al. 2023): where the ranks go is found out in the training itself."""

from __future__ import annotations

from prunepeft_baselines.settled import Settled
from prunepeft_baselines.uniform import uniform_architecture
from prunepeft_ray import Architecture, MethodInfo, Module, NoOptions, Problem


def adalora_architecture(problem: Problem) -> Architecture:
    """Fill all layers with AdaLoRA, whose ranks together take as much of the budget as there is.

    The sizes say how many ranks there are to share out, not which layer ends up with them. One rank in every layer is
    several percent of a small budget, so what is left of it beside a uniform rank goes into single ranks of the last
    layers.

    Args:
        problem: The layers, the costs and the budget; its space need not have PA slots.

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


ADALORA = MethodInfo("AdaLoRA in all layers, which shares its ranks out while it trains: no search", _build)
