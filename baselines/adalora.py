"""AdaLoRA at the budget (Zhang et al. 2023): where the ranks go is found out in the training itself."""

from __future__ import annotations

from baselines.settled import Settled
from baselines.uniform import uniform_architecture
from prunepeft_ray import MethodInfo, NoOptions, Problem


def _build(problem: Problem, _options: NoOptions) -> Settled:
    return Settled("adalora", uniform_architecture(problem, "PA", "adalora", "adalora"))


ADALORA = MethodInfo("AdaLoRA in all layers, which shares its ranks out while it trains: no search", _build)
