"""Optimiser, schedule and precision of a job."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from prunepeft_ray.config import TrainingConfig
from prunepeft_ray.errors import InputError

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def build_optimiser(trainable: Mapping[str, nn.Parameter], recipe: TrainingConfig) -> torch.optim.Optimizer:
    """Build AdamW with one learning rate per slot kind and one for the head.

    Args:
        trainable: Parameters by name; the first part of each name is its slot kind or ``head``.
        recipe: Learning rates and weight decay.
    """
    by_kind: dict[str, list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        by_kind.setdefault(name.split(".")[0], []).append(parameter)
    groups = [{"params": found, "lr": getattr(recipe.learning_rates, kind)} for kind, found in by_kind.items()]
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=True)


def build_schedule(optimiser: torch.optim.Optimizer, recipe: TrainingConfig, steps: int) -> LRScheduler:
    """Build the learning-rate schedule over a number of optimiser steps."""
    schedule: LRScheduler = get_scheduler(
        SCHEDULES[recipe.schedule],
        optimiser,
        num_warmup_steps=round(recipe.warmup_share * steps),
        num_training_steps=steps,
    )
    return schedule


def compute_type(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that matrix products are computed in: ``auto`` is bf16 on GPUs that support it, else fp32.

    Raises:
        InputError: If the device does not support the precision.
    """
    if precision == "auto":
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        precision = "bf16" if bf16 else "fp32"
    if precision == "fp16" and device.type != "cuda":
        raise InputError("training.precision: fp16 requires a GPU; use fp32 or bf16 on a CPU")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return the context for forward passes.

    Raises:
        InputError: If the device does not support the precision.
    """
    dtype = compute_type(precision, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
