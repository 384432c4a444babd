"""What the time of a training job depends on: examples, tokens, layers, slots and parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.backbones import Backbone, load_tokenizer
from prunepeft_ray.jobs import TrainJob
from prunepeft_ray.tasks import Split, TaskData

SAMPLE = 1000
"""Number of texts of a split that are tokenised to measure their length."""


@dataclass(frozen=True)
class Workload:
    """Sizes of a backbone and a task.

    Args:
        layers: Number of layers.
        hidden: Width of the hidden state.
        layer_parameters: Number of parameters of one layer.
        train: Number of examples in the training split.
        dev: Number of examples in the dev split.
        test: Number of examples in all test splits.
        train_tokens: Mean number of tokens of a training example.
        eval_tokens: Mean number of tokens of a dev example.
    """

    layers: int
    hidden: int
    layer_parameters: float
    train: int
    dev: int
    test: int
    train_tokens: float
    eval_tokens: float


def measure_workload(model: str, backbone: Backbone, data: TaskData, max_length: int) -> Workload:
    """Measure the sizes of a backbone and a task.

    Args:
        model: Name of the backbone, whose tokenizer is loaded.
        backbone: The backbone; its weights may be on the meta device.
        data: The task.
        max_length: Maximum number of tokens of an example.

    Raises:
        InputError: If the tokenizer cannot be loaded.
    """
    tokenizer = load_tokenizer(model)
    return Workload(
        layers=backbone.layers,
        hidden=backbone.hidden_size,
        layer_parameters=backbone.layer_parameters / backbone.layers,
        train=len(data.train),
        dev=len(data.dev),
        test=sum(map(len, data.tests.values())),
        train_tokens=_mean_tokens(tokenizer, data.train, max_length),
        eval_tokens=_mean_tokens(tokenizer, data.dev, max_length),
    )


def _mean_tokens(tokenizer: object, split: Split, max_length: int) -> float:
    some = split.take(range(0, len(split), math.ceil(len(split) / SAMPLE)))
    encoded = tokenizer(some.texts, some.texts2, truncation=True, max_length=max_length)  # type: ignore[operator]
    return float(np.mean([len(ids) for ids in encoded["input_ids"]]))


@dataclass(frozen=True)
class Footprint:
    """The amounts of work in a job.

    Args:
        steps: Number of optimiser steps.
        slots: Number of filled slots.
        criteria: Number of criteria collected.
        train_flops: Floating-point operations of training.
        eval_flops: Floating-point operations of evaluation.
        workers: Number of workers that share the work.
    """

    steps: float
    slots: int
    criteria: int
    train_flops: float
    eval_flops: float
    workers: int = 1

    @property
    def amounts(self) -> tuple[float, ...]:
        """The amount of each of :data:`TERMS`; workers share all but what each does once per job and step."""
        shared = (
            self.steps * self.slots,
            self.steps * self.slots * self.criteria,
            self.train_flops / 1e9,
            self.eval_flops / 1e9,
        )
        return (1.0, self.steps, *(amount / self.workers for amount in shared))


TERMS = ("job", "step", "slot and step", "criterion, slot and step", "GFLOP of training", "GFLOP of evaluation")
"""What the seconds of a job are a sum over: each has its own cost."""


@dataclass(frozen=True)
class Counts:
    """How much a job trains and evaluates.

    Args:
        train_examples: Examples trained on, counted every time.
        eval_examples: Examples evaluated.
        steps: Number of optimiser steps.
        workers: Number of workers.
    """

    train_examples: float
    eval_examples: float
    steps: float
    workers: int = field(default=1, kw_only=True)


def planned_counts(job: TrainJob, workload: Workload, workers: int) -> Counts:
    """Return how much a job trains and evaluates if it is not stopped early."""
    recipe = job.training
    size = min(job.train_size or workload.train, workload.train)
    held_out = round(job.holdout * size)
    kept = size - held_out
    evaluated = {"none": 0, "dev": workload.dev, "holdout": held_out}[job.evaluate]
    return Counts(
        train_examples=recipe.epochs * kept,
        eval_examples=recipe.epochs * evaluated + (workload.test if job.test else 0),
        steps=recipe.epochs * math.ceil(kept / recipe.batch_size),
        workers=workers,
    )


def footprint(
    architecture: Architecture,
    criteria: Sequence[str],
    micro_batches: int,
    parameters: int,
    counts: Counts,
    workload: Workload,
) -> Footprint:
    """Compute the amounts of work in a job.

    Gradients flow back to the lowest filled layer only. For each token and weight, the forward pass takes two
    operations, and so does the gradient of activations; PEFT parameters take two more for their own gradient. Attention
    takes four operations per layer, token, other token and unit of width.

    Args:
        architecture: The job's architecture.
        criteria: The criteria that it collects.
        micro_batches: Number of parts of a batch; more workers than that are of no use.
        parameters: Number of PEFT parameters.
        counts: How much it trains and evaluates.
        workload: Sizes of its backbone and task.
    """
    lowest = min((slot.layer for slot in architecture.slots), default=workload.layers)

    def layer_flops(tokens: float) -> float:
        return 2 * workload.layer_parameters + 4 * tokens * workload.hidden

    passes = workload.layers + (workload.layers - lowest)
    per_train_token = passes * layer_flops(workload.train_tokens) + 6 * parameters
    per_eval_token = workload.layers * layer_flops(workload.eval_tokens) + 2 * parameters
    return Footprint(
        steps=counts.steps,
        slots=len(architecture),
        criteria=len(criteria),
        train_flops=counts.train_examples * workload.train_tokens * per_train_token,
        eval_flops=counts.eval_examples * workload.eval_tokens * per_eval_token,
        workers=min(counts.workers, micro_batches),
    )
