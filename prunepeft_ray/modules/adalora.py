"""AdaLoRA on the query and value projections, with HF PEFT's layers and allocator (Zhang et al. 2023).

A matrix's update is B E A, with the singular values E on a diagonal. All matrices start at 1.5 times the rank that the
architecture gives them. On a cubic schedule, the least important singular values of all matrices are removed until the
total number that the architecture specifies is left, unevenly distributed over the matrices. Like LoRA, it is a module
type of PA slots; it keeps its own initialisation whatever ``modules.init`` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft import AdaLoraConfig
from peft.tuners.adalora import RankAllocator, SVDLinear
from torch import Tensor, nn

from prunepeft_ray.architecture import ModuleCost
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.modules.lora import NAME
from prunepeft_ray.modules.module_type import MODULE_TYPES, ModuleType, ModuleWork

START = 1.5
"""Ratio of the initial rank to the average final rank: that of PEFT's defaults, 12 and 8."""
ORTHOGONALITY = 0.5
"""Weight of the penalty that keeps A and B orthogonal; PEFT's default."""
FIRST_SHARE, LAST_SHARE, INTERVAL_SHARE = 0.1, 0.5, 0.002
"""Fractions of all steps: before the first rank is removed, after the last one, and between two allocations.

These are roughly the paper's values for GLUE.
"""


def start_rank(rank: int) -> int:
    """Return the initial rank of a matrix for a final rank; always larger."""
    return math.ceil(START * rank)


class _Matrices:
    """The part of a model's interface that PEFT's allocator uses: the matrices to prune, by name."""

    def __init__(self, layers: Mapping[str, SVDLinear]) -> None:
        self._layers = layers

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, layer in self._layers.items():
            for part in ("lora_A", "lora_B", "lora_E"):
                yield f"{name}.{part}.{NAME}", getattr(layer, part)[NAME]


class AdaLoraAllocator:
    """Removes ranks from AdaLoRA's layers while they train, with PEFT's allocator.

    PEFT counts ranks, while an architecture's size is measured in parameters. Where matrices differ in width the two do
    not coincide, so the final number of ranks is what fits the architecture's number of parameters.

    Args:
        layers: All layers and their final ranks, by name.
    """

    def __init__(self, layers: Mapping[str, tuple[nn.Module, int]]) -> None:
        self._layers: dict[str, SVDLinear] = {name: layer for name, (layer, _) in layers.items()}
        self._matrices = _Matrices(self._layers)
        self._widths = {
            f"{name}.lora_E.{NAME}": layer.in_features + layer.out_features + 1 for name, layer in self._layers.items()
        }
        ranks = [rank for _, rank in layers.values()]
        self._max_parameters = sum(rank * width for rank, width in zip(ranks, self._widths.values(), strict=True))
        # the step counts are set at the first step
        self._config = AdaLoraConfig(total_step=1)
        self._allocator = RankAllocator(self._matrices, self._config, NAME)
        self._allocator.target_bgt = sum(ranks)
        self._kept: dict[str, list[bool]] = {}

    @property
    def within_size(self) -> bool:
        """Whether the final ranks have been reached."""
        return bool(self._kept)

    @property
    def parameters(self) -> int:
        """Number of parameters of the remaining singular values and their vectors."""
        if self._kept:
            return self._count(self._kept)
        return sum(parameter.numel() for _, parameter in self._matrices.named_parameters())

    def _count(self, kept: Mapping[str, list[bool]]) -> int:
        return sum(sum(kept[name]) * width for name, width in self._widths.items())

    def penalty(self) -> Tensor:
        """Return how far A and B are from orthogonal on average (paper, Eq. 4; as in PEFT, without the squares)."""
        grams = []
        for layer in self._layers.values():
            right, left = layer.lora_A[NAME], layer.lora_B[NAME]
            grams += [right @ right.T, left.T @ left]
        distances = [torch.linalg.norm(gram - torch.eye(len(gram), device=gram.device)) for gram in grams]
        return ORTHOGONALITY * torch.stack(distances).mean()

    def after_step(self, step: int, total_steps: int) -> None:
        """Update the importance scores and remove ranks; after the last removal, keep the removed ranks masked."""
        config = self._config
        config.total_step = total_steps
        config.tinit, config.tfinal = round(FIRST_SHARE * total_steps), round(LAST_SHARE * total_steps)
        config.deltaT = max(1, round(INTERVAL_SHARE * total_steps))
        last = total_steps - config.tfinal
        if step < last:
            self._allocator.update_and_allocate(self._matrices, step)
        elif step == last:
            self._finalise()
        else:
            self._allocator.mask_using_rank_pattern(self._matrices, self._kept)

    def _finalise(self) -> None:
        allocator, narrowest, widest = self._allocator, min(self._widths.values()), max(self._widths.values())
        if not allocator.ipt:
            # in very short trainings this is the first step
            allocator.update_ipt(self._matrices)
        ranks = min(self._max_parameters // narrowest, allocator.init_bgt - 1)
        self._kept = allocator.mask_to_budget(self._matrices, ranks)
        # masked ranks stay masked, so approach the final number from above
        while (excess := self._count(self._kept) - self._max_parameters) > 0 and ranks > 0:
            ranks = max(0, ranks - math.ceil(excess / widest))
            self._kept = allocator.mask_to_budget(self._matrices, ranks)
        allocator.reset_ipt()

    def state(self) -> dict[str, Any]:
        """Return the moving averages behind the importance scores, and the final ranks if reached."""
        allocator = self._allocator
        return {"sensitivity": allocator.exp_avg_ipt, "uncertainty": allocator.exp_avg_unc, "kept": self._kept}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        allocator, devices = self._allocator, {n: p.device for n, p in self._matrices.named_parameters()}
        allocator.exp_avg_ipt = {name: value.to(devices[name]) for name, value in state["sensitivity"].items()}
        allocator.exp_avg_unc = {name: value.to(devices[name]) for name, value in state["uncertainty"].items()}
        # the values are recomputed in every step; the presence of the names marks the averages as started
        allocator.ipt = dict(allocator.exp_avg_ipt)
        self._kept = dict(state["kept"])


def _wrap(base: nn.Module, _widths: tuple[int, int], rank: int, settings: ModulesConfig) -> nn.Module:
    start = start_rank(rank)
    alpha = settings.lora_alpha or start
    config = AdaLoraConfig(lora_dropout=settings.lora_dropout, total_step=1)
    layer = SVDLinear(base, NAME, config=config, r=start, lora_alpha=alpha)
    # PEFT registers this constant as a parameter
    del layer.ranknum[NAME]
    layer.ranknum[NAME] = float(start)
    wrapper: nn.Module = layer
    return wrapper


def _work(widths: tuple[int, int], rank: int, _settings: ModulesConfig) -> ModuleWork:
    """Count the projections, which keep removed ranks as zeros, and the penalty's products, forward and backward."""
    start = start_rank(rank)
    return ModuleWork((widths[0], start, widths[1]), per_pass=3 * start**2 * sum(widths))


MODULE_TYPES.register(
    "adalora",
    ModuleType(
        kind="PA",
        label="AdaLoRA",
        sites=("query", "value"),
        cost=lambda _base, widths: ModuleCost(sum(widths) + 1),
        wrap=_wrap,
        allocator=AdaLoraAllocator,
        work=_work,
    ),
)
