"""LoRA and DoRA on the query and value projections, with HF PEFT's layers.

Sources: Hu et al. 2022 (LoRA); Liu et al. 2024 (DoRA); PrunePEFT paper, Eqs. 4-5 (initialisation).
"""

from __future__ import annotations

from functools import partial

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from prunepeft_ray.architecture import ModuleCost
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.modules.initialisation import paper_initialisation
from prunepeft_ray.modules.module_type import MODULE_TYPES, ModuleType, ModuleWork

NAME = "default"
"""PEFT's name for the only adapter that a layer carries here."""


def _wrap(
    base: nn.Module, _widths: tuple[int, int], rank: int, settings: ModulesConfig, *, use_dora: bool
) -> nn.Module:
    alpha = settings.lora_alpha or rank
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=settings.lora_dropout, use_dora=use_dora)
    layer = LoraLinear(base, NAME, config=config, r=rank, lora_alpha=alpha)
    if settings.init == "paper":
        paper_initialisation(layer.lora_A[NAME].weight, layer.lora_B[NAME].weight)
        if use_dora:
            _reset_magnitude(layer)
    wrapper: nn.Module = layer
    return wrapper


def _reset_magnitude(layer: LoraLinear) -> None:
    """Set DoRA's magnitude to the norm of the merged weight, so that magnitude and direction start out consistent."""
    with torch.no_grad():
        layer.lora_magnitude_vector[NAME].update_layer(
            base_layer=layer.get_base_layer(),
            lora_A=layer.lora_A[NAME].weight,
            lora_B=layer.lora_B[NAME].weight,
            scaling=layer.scaling[NAME],
        )


def _lora_update(layer: nn.Module) -> tuple[nn.Module, float]:
    assert isinstance(layer, LoraLinear)
    return layer.lora_B[NAME], float(layer.scaling[NAME])


def _dora_update(layer: nn.Module) -> tuple[nn.Module, float]:
    assert isinstance(layer, LoraLinear)
    return layer.lora_magnitude_vector[NAME], 1.0


def _dora_work(widths: tuple[int, int], rank: int, settings: ModulesConfig) -> ModuleWork:
    """Count LoRA's projections, the product B A for the norms, and the base layer's product with what dropout left."""
    inputs, outputs = widths
    repeated = inputs * outputs if settings.lora_dropout else 0
    return ModuleWork((inputs, rank, outputs), frozen=repeated, per_pass=inputs * rank * (inputs + outputs))


MODULE_TYPES.register(
    "lora",
    ModuleType(
        kind="PA",
        label="LoRA",
        sites=("query", "value"),
        cost=lambda _base, widths: ModuleCost(sum(widths)),
        wrap=partial(_wrap, use_dora=False),
        update=_lora_update,
    ),
)
MODULE_TYPES.register(
    "dora",
    ModuleType(
        kind="PA",
        label="DoRA",
        sites=("query", "value"),
        cost=lambda _base, widths: ModuleCost(sum(widths), widths[1]),
        wrap=partial(_wrap, use_dora=True),
        update=_dora_update,
        work=_dora_work,
    ),
)
