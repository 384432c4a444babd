"""Training one job: the loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from prunepeft_ray.backbones import Backbone
from prunepeft_ray.criteria.collector import Collector, Update
from prunepeft_ray.jobs import Cost, Epoch, TrainJob, TrainResult
from prunepeft_ray.modules import AdaptedBackbone
from prunepeft_ray.seeds import derive_seed
from prunepeft_ray.training.cost import FlopMeter, peak_memory
from prunepeft_ray.training.encoding import EncodedSplit, EncodedTask, Indices, epoch_batches
from prunepeft_ray.training.evaluation import loss_sum, measure, predict_logits
from prunepeft_ray.training.gradients import GradientBuffer
from prunepeft_ray.training.group import Group
from prunepeft_ray.training.optimiser import autocast, build_optimiser, build_schedule

OnStep = Callable[[int, int], None]
"""Called after every step with examples trained on so far, and in all."""


@dataclass(frozen=True)
class Trained:
    """What came of a job, and the best epoch's weights."""

    result: TrainResult
    state: Mapping[str, Tensor]


class _NotFiniteError(ArithmeticError):
    """The loss left the numbers."""


def _check_finite(what: str, loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise _NotFiniteError(f"the {what} loss is {loss} in epoch {epoch}; lower learning rates may help")


def train(job: TrainJob, backbone: Backbone, task: EncodedTask, group: Group, on_step: OnStep) -> Trained:
    """Train a job from scratch, measure it and score its slots.

    The result does not depend on the number of processes in the group: batches are cut into the recipe's micro-batches
    whoever computes them, dropout is seeded per micro-batch, and sums are taken in a fixed order.

    Args:
        job: What to train.
        backbone: The job's backbone; adapted meanwhile and given back as it was.
        task: The job's task.
        group: The processes that train this job together.
        on_step: Told the progress.

    Returns:
        Result and weights. A loss that is not finite gives a result with status ``"failed"``.
    """
    with AdaptedBackbone(backbone, job.architecture, job.modules, task.data.num_labels, job.seed) as adapted:
        try:
            return _Run(job, adapted, task, group, on_step).train()
        finally:
            backbone.model.eval()


class _Run:
    """The state of one job while it trains."""

    def __init__(
        self, job: TrainJob, adapted: AdaptedBackbone, task: EncodedTask, group: Group, on_step: OnStep
    ) -> None:
        self.job, self.adapted, self.task, self.group, self.on_step = job, adapted, task, group, on_step
        self.model = adapted.backbone.model
        self.device = adapted.backbone.device
        self.split, self.held_out = task.subset(job.train_size, job.holdout)
        self.recipe = job.training
        self.micro_batches = self.recipe.micro_batches or default_micro_batches(self.device)
        self.steps_per_epoch = math.ceil(len(self.split) / self.recipe.batch_size)
        self.optimiser = build_optimiser(adapted.trainable, self.recipe)
        self.schedule = build_schedule(self.optimiser, self.recipe, self.steps_per_epoch * self.recipe.epochs)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.recipe.precision == "fp16")
        self.collector = self._collector()
        trainable = list(adapted.trainable.values())
        # the last value is the loss
        self.buffer = GradientBuffer(trainable, self.collector.vector_size + 1, self.micro_batches)
        self.slot_tensors = sum(len(found) for found in adapted.slot_parameters.values())
        self.trainable = trainable
        self.flops = FlopMeter()
        self.step = self.examples = self.evaluated = 0
        self.started = time.monotonic()

    def _collector(self) -> Collector:
        adapted = self.adapted
        updates = [
            Update(site.slot, site.update, site.scale, adapted.backbone.width(site.slot.layer, site.name)[1])
            for site in adapted.sites
        ]
        return Collector(
            self.job.collect,
            adapted.slot_parameters,
            updates,
            self.device,
            self.job.threshold,
            self.job.threshold_quantile,
        )

    def train(self) -> Trained:
        epochs: list[Epoch] = []
        best: Epoch | None = None
        best_state: Mapping[str, Tensor] = {}
        try:
            for number in range(1, self.recipe.epochs + 1):
                epoch = self._epoch(number)
                epochs.append(epoch)
                if best is None or self._value(epoch) > self._value(best):
                    best, best_state = epoch, self.adapted.state() if self._chooses_epoch else {}
                if self._chooses_epoch and self.recipe.patience and number - best.epoch >= self.recipe.patience:
                    break
        except _NotFiniteError as error:
            failed = self._result(epochs, epochs[-1] if epochs else None, {})
            return Trained(replace(failed, status="failed", reason=str(error)), {})
        assert best
        # Theta describes the module as the pass left it, the metrics the best epoch
        thetas = self.collector.thetas()
        if self._chooses_epoch:
            self.adapted.load(best_state)
        else:
            best, best_state = epochs[-1], self.adapted.state()
        test = self._measure(self.task.test) if self.job.test else {}
        scores = {name: {str(slot): theta for slot, theta in row.items()} for name, row in thetas.items()}
        return Trained(replace(self._result(epochs, best, test), scores=scores), best_state)

    @property
    def _chooses_epoch(self) -> bool:
        return self.job.evaluate != "none" and self.recipe.epochs > 1

    def _value(self, epoch: Epoch) -> float:
        return epoch.metrics.get(self.job.metric, -math.inf)

    def _epoch(self, number: int) -> Epoch:
        started = time.monotonic()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.model.train()
        with self.collector.watching():
            for indices in epoch_batches(self.split.lengths, self.recipe.batch_size, self.job.seed, number):
                loss += self._step(indices) * len(indices)
                self.on_step(self.examples, len(self.split) * self.recipe.epochs)
        train_loss = float(loss) / len(self.split)
        _check_finite("training", train_loss, number)
        evaluated = {"none": None, "dev": self.task.dev, "holdout": self.held_out}[self.job.evaluate]
        metrics = self._measure(evaluated) if evaluated is not None else {}
        if metrics:
            # the weights may have left the numbers in the last step
            _check_finite(self.job.evaluate, metrics["loss"], number)
        return Epoch(number, train_loss, metrics, time.monotonic() - started)

    def _step(self, indices: Indices) -> Tensor:
        """Train on one batch; returns its mean loss, on the device."""
        self.buffer.clear()
        parts = np.array_split(indices, self.micro_batches)
        for number in range(self.group.rank, self.micro_batches, self.group.world):
            if len(parts[number]):
                self._micro_batch(number, parts[number], len(indices))
        extra = self.buffer.total(self.group)
        loss_scale = self.scaler.get_scale()
        self.scaler.unscale_(self.optimiser)
        # with fp16 a step may overflow; it then counts neither for the weights nor for the scores
        if not self.scaler.is_enabled() or bool(self.buffer.gradient.isfinite().all()):
            gradients = [p.grad for p in self.trainable[: self.slot_tensors] if p.grad is not None]
            self.collector.step(gradients, extra[:-1], loss_scale)
        if self.recipe.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.trainable, self.recipe.max_grad_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()
        self.step += 1
        self.examples += len(indices)
        return extra[-1].double() / loss_scale

    def _micro_batch(self, number: int, indices: Indices, batch_size: int) -> None:
        torch.manual_seed(derive_seed(self.job.seed, "dropout", self.step, number))
        inputs, labels = self.split.batch(indices, self.device)
        self.buffer.begin(number)
        self.collector.begin_micro_batch(inputs["attention_mask"])
        tokens = inputs["input_ids"].numel()
        if self.flops.wanted:
            with self.flops.counter() as counter:
                loss = self._backward(inputs, labels, batch_size)
            self.flops.set(counter, tokens)
        else:
            loss = self._backward(inputs, labels, batch_size)
        self.flops.tokens += tokens
        self.buffer.put(number, torch.cat([self.collector.micro_batch_vector(), loss.float().reshape(1)]))

    def _backward(self, inputs: Mapping[str, Tensor], labels: Tensor, batch_size: int) -> Tensor:
        with autocast(self.recipe.precision, self.device):
            logits = self.model(**inputs).logits
        loss: Tensor = self.scaler.scale(loss_sum(logits, labels, self.task.data.regression) / batch_size)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _measure(self, split: EncodedSplit) -> dict[str, float]:
        self.evaluated += len(split)
        logits = predict_logits(
            self.model,
            split,
            self.task.data.num_labels,
            self.recipe.eval_batch_size,
            self.recipe.precision,
            self.group,
        )
        return measure(logits, split.labels, self.task.data)

    def _result(self, epochs: list[Epoch], best: Epoch | None, test: Mapping[str, float]) -> TrainResult:
        seconds = time.monotonic() - self.started
        return TrainResult(
            parameters=self.adapted.parameters,
            head_parameters=self.adapted.head_parameters,
            epochs=tuple(epochs),
            best_epoch=best.epoch if best else 0,
            metrics=best.metrics if best else {},
            test=test,
            cost=Cost(
                train_examples=self.examples,
                eval_examples=self.evaluated,
                steps=self.step,
                flops=sum(self.group.gather(self.flops.flops)),
                device_seconds=seconds * self.group.world,
                wall_seconds=seconds,
                peak_memory_bytes=peak_memory(self.device),
            ),
        )


def default_micro_batches(device: torch.device) -> int:
    """Parts that a batch is split into unless the recipe says: 2 on a CPU, so two workers can share it, 1 on a GPU."""
    return 1 if device.type == "cuda" else 2
