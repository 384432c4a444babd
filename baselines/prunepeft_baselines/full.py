"""Full fine-tuning of the whole backbone: a reference that always exceeds the budget."""

from __future__ import annotations

from prunepeft_baselines.settled import Settled
from prunepeft_ray import Architecture, MethodInfo, Module, NoOptions, Problem, Slot


def _build(problem: Problem, _options: NoOptions) -> Settled:
    layers = {Slot(layer, "FT"): Module("full", 1) for layer in range(problem.layers)}
    return Settled("full", Architecture.of(layers))


FULL = MethodInfo("full fine-tuning of the backbone: no search, exceeds the budget", _build, reference=True)
