"""Plain training of any transformers model on a job's batches, to compare our loop with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import get_scheduler

from prunepeft_ray.backbones import Backbone
from prunepeft_ray.jobs import TrainJob
from prunepeft_ray.training import EncodedTask
from prunepeft_ray.training.encoding import epoch_batches


def plain_model(backbone: Backbone, outputs: int, seed: int) -> Any:
    """A model of its own with the backbone's weights and the head that a job with that seed starts from."""
    backbone.reset_head(outputs, seed)
    return copy.deepcopy(backbone.model)


def train_by_hand(
    model: Any,
    groups: list[dict[str, Any]],
    job: TrainJob,
    task: EncodedTask,
    after_step: Callable[[int], None] = lambda step: None,
) -> None:
    """AdamW with a linear schedule, whole batches, gradients clipped; the loss is the one the model gives itself."""
    recipe = job.training
    split, _ = task.subset(job.train_size, 0.0)
    trainable = [p for group in groups for p in group["params"]]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(split) // recipe.batch_size)
    schedule = get_scheduler("linear", optimiser, round(recipe.warmup_share * steps), steps)
    model.train()
    step = 0
    for epoch in range(1, recipe.epochs + 1):
        for indices in epoch_batches(split.lengths, recipe.batch_size, job.seed, epoch):
            inputs, labels = split.batch(indices, torch.device("cpu"))
            optimiser.zero_grad()
            model(**inputs, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(trainable, recipe.max_grad_norm)
            optimiser.step()
            schedule.step()
            step += 1
            after_step(step)
    model.eval()
