"""Training one job: the loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from prunepeft_ray.architecture import Slot
from prunepeft_ray.backbones import Backbone
from prunepeft_ray.criteria.collector import Collector, Update
from prunepeft_ray.errors import InputError
from prunepeft_ray.jobs import Cost, Epoch, TrainJob, TrainResult
from prunepeft_ray.modules import AdaptedBackbone
from prunepeft_ray.seeds import derive_seed
from prunepeft_ray.training.checkpoint import Keeper, Progress, State, UnusableStateError
from prunepeft_ray.training.cost import FlopMeter, peak_memory
from prunepeft_ray.training.encoding import EncodedSplit, EncodedTask, Indices, epoch_batches, padded_tokens
from prunepeft_ray.training.evaluation import loss_sum, measure, predict_logits
from prunepeft_ray.training.gradients import GradientBuffer
from prunepeft_ray.training.group import Group
from prunepeft_ray.training.memory import is_out_of_memory
from prunepeft_ray.training.optimiser import autocast, build_optimiser, build_schedule

Value = TypeVar("Value")

OnStep = Callable[[int, int], None]
"""Called after every step, and every batch evaluated, with examples trained on so far, and in all."""


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


def train(
    job: TrainJob,
    backbone: Backbone,
    task: EncodedTask,
    group: Group,
    on_step: OnStep,
    keeper: Keeper | None = None,
    split: int = 1,
) -> Trained:
    """Train a job from scratch, measure it and score its slots.

    The result does not depend on the number of processes in the group: batches are cut into the recipe's micro-batches
    whoever computes them, dropout is seeded per micro-batch, and sums are taken in a fixed order. Nor does it depend on
    interruptions: a job that goes on from a kept state gives the bits of one that was never interrupted.

    Args:
        job: What to train.
        backbone: The job's backbone; adapted meanwhile and given back as it was.
        task: The job's task.
        group: The processes that train this job together.
        on_step: Told the progress.
        keeper: Keeps the job's state, on the group's first process alone; None where nothing is kept.
        split: Cut every micro-batch, and every batch of an evaluation, into that many, to save memory.

    Returns:
        Result and weights. A loss that is not finite gives a result with status ``"failed"``.
    """
    # the first process looks, so that all begin at the same place
    kept = group.gather(keeper.load() if keeper else None)[0]
    while True:
        with AdaptedBackbone(backbone, job.architecture, job.modules, task.data.num_labels, job.seed) as adapted:
            try:
                run = _Run(job, adapted, task, group, on_step, keeper, split)
                if kept is not None:
                    run.restore(kept)
                return run.train()
            except UnusableStateError as error:
                # half of it may have been taken over: begin with fresh modules
                kept = None
                if keeper:
                    keeper.refuse(str(error))
            finally:
                backbone.model.eval()


class _Run:
    """The state of one job while it trains."""

    def __init__(
        self,
        job: TrainJob,
        adapted: AdaptedBackbone,
        task: EncodedTask,
        group: Group,
        on_step: OnStep,
        keeper: Keeper | None,
        split: int,
    ) -> None:
        self.job, self.adapted, self.task, self.group, self.on_step = job, adapted, task, group, on_step
        self.keeper = keeper
        self.model = adapted.backbone.model
        self.device = adapted.backbone.device
        self.split, self.held_out = task.subset(job.train_size, job.holdout)
        self.recipe = job.training
        self.micro_batches = split * (self.recipe.micro_batches or default_micro_batches(self.device))
        self.eval_batch_size = max(1, self.recipe.eval_batch_size // split)
        self.steps_per_epoch = math.ceil(len(self.split) / self.recipe.batch_size)
        self.optimiser = build_optimiser(adapted.optimised, self.recipe)
        self.total_steps = self.steps_per_epoch * self.recipe.epochs
        self.schedule = build_schedule(self.optimiser, self.recipe, self.total_steps)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.recipe.precision == "fp16")
        self.collector = self._collector()
        trainable = list(adapted.trainable.values())
        # the last value is the loss
        self.buffer = GradientBuffer(trainable, self.collector.vector_size + 1, self.micro_batches)
        self.slot_tensors = sum(len(found) for found in adapted.slot_parameters.values())
        self.trainable = trainable
        self.optimised = list(adapted.optimised.values())
        self.flops = FlopMeter()
        self.progress = Progress(loss=torch.zeros((), dtype=torch.float64, device=self.device))
        self.clock = time.monotonic()

    def _collector(self) -> Collector:
        adapted = self.adapted
        unseen = [site.slot for site in adapted.sites if site.update is None]
        if unseen and self.job.collect:
            module = adapted.architecture[unseen[0]].type
            raise InputError(f"slot {unseen[0]}: criteria cannot be collected of '{module}' modules")
        updates = [
            Update(site.slot, site.update, site.scale, adapted.backbone.width(site.slot.layer, site.name)[1])
            for site in adapted.sites
            if site.update is not None
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
        epochs = self.progress.epochs
        if self.keeper:
            self.keeper.begin(self.progress.examples)
        try:
            while not self._over:
                self._epoch()
        except _NotFiniteError as error:
            failed = self._result(epochs[-1] if epochs else None, {})
            return Trained(replace(failed, status="failed", reason=str(error)), {})
        # Theta describes the module as the pass left it, the metrics the best epoch
        scores, halves = _by_name(self.collector.thetas()), _by_name(self.collector.halves())
        best, best_state = epochs[-1], self.progress.best_state
        if self._chooses_epoch:
            best = epochs[self.progress.best_epoch - 1]
            self.adapted.load(best_state)
        else:
            best_state = self.adapted.state()
        test = self._test() if self.job.test else {}
        return Trained(replace(self._result(best, test), scores=scores, halves=halves), best_state)

    @property
    def _chooses_epoch(self) -> bool:
        return self.job.evaluate != "none" and self.recipe.epochs > 1

    @property
    def _over(self) -> bool:
        """Whether all epochs are done, or there was no gain for too long."""
        done = len(self.progress.epochs)
        waited = done - self.progress.best_epoch
        impatient = self._chooses_epoch and self.recipe.patience is not None and waited >= self.recipe.patience
        return done == self.recipe.epochs or (self.progress.best_epoch > 0 and impatient)

    def _value(self, epoch: Epoch) -> float:
        return epoch.metrics.get(self.job.metric, -math.inf)

    def _epoch(self) -> None:
        progress, number = self.progress, len(self.progress.epochs) + 1
        batches = epoch_batches(self.split.lengths, self.recipe.batch_size, self.job.seed, number)
        self.model.train()
        with self.collector.watching():
            for indices in batches[progress.batch :]:
                if self.keeper:
                    self.keeper.before_step(progress.examples, len(indices))
                progress.loss += self._step(indices) * len(indices)
                progress.batch += 1
                self._tell()
                if self.keeper and self.keeper.wanted():
                    self._keep()
        train_loss = float(progress.loss) / len(self.split)
        _check_finite("training", train_loss, number)
        evaluated = {"none": None, "dev": self.task.dev, "holdout": self.held_out}[self.job.evaluate]
        metrics = self._measure(evaluated) if evaluated is not None else {}
        if metrics:
            # the weights may have left the numbers in the last step
            _check_finite(self.job.evaluate, metrics["loss"], number)
        self._end_epoch(Epoch(number, train_loss, metrics, progress.epoch_seconds + self._count_time()))

    def _end_epoch(self, epoch: Epoch) -> None:
        progress = self.progress
        best = progress.epochs[progress.best_epoch - 1] if progress.best_epoch else None
        progress.epochs.append(epoch)
        # modules that are still too large are not what was asked for; at the end none is
        if self.adapted.within_size and (best is None or self._value(epoch) > self._value(best)):
            progress.best_epoch = epoch.epoch
            progress.best_state = self.adapted.state() if self._chooses_epoch else {}
        progress.batch, progress.epoch_seconds = 0, 0.0
        progress.loss.zero_()
        # a job that is over is stored for good at once, unless there is something to measure
        if self.keeper and (not self._over or self.job.test):
            self._keep()

    def _tell(self) -> None:
        self.on_step(self.progress.examples, len(self.split) * self.recipe.epochs)

    def _count_time(self) -> float:
        """Add the time since this was called last to the job's cost; returns it."""
        now = time.monotonic()
        passed, self.clock = now - self.clock, now
        self.progress.seconds += passed
        self.progress.device_seconds += passed * self.group.world
        self.progress.peak_memory_bytes = max(self.progress.peak_memory_bytes, peak_memory(self.device))
        return passed

    def _keep(self) -> None:
        assert self.keeper
        self.progress.epoch_seconds += self._count_time()
        self.keeper.save(
            {
                "progress": self.progress.to_state(),
                "weights": self.adapted.training_state(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict(),
                "scores": self.collector.state(),
                "flops": self.flops.state(),
                "allocators": self.adapted.allocator_state(),
            }
        )

    def restore(self, state: State) -> None:
        """Go on where a kept state ends.

        Raises:
            UnusableStateError: If it is not one of this job; what was taken over of it is of no use then.
        """
        try:
            self._restore(state)
        except (InputError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise UnusableStateError(f"it is not a state of this job: {text}") from error

    def _restore(self, state: State) -> None:
        self.progress = Progress.from_state(state["progress"], self.device)
        self.progress.restarts += 1
        self.adapted.load_training(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.collector.load(state["scores"])
        self.flops.load(state["flops"])
        # states from before there were allocators lack them
        self.adapted.load_allocators(state.get("allocators", {}))

    def _step(self, indices: Indices) -> Tensor:
        """Train on one batch; returns its mean loss, on the device."""
        self.buffer.clear()
        parts = [part for part in np.array_split(indices, self.micro_batches) if len(part)]
        for number in range(self.group.rank, len(parts), self.group.world):
            self._micro_batch(number, parts[number], len(indices))
        # those of others count too, so the sum is the same on every process
        self.flops.tokens += sum(padded_tokens(self.split.lengths[part]) for part in parts)
        extra = self.buffer.total(self.group)
        loss_scale = self.scaler.get_scale()
        self.adapted.before_step(loss_scale)
        self.scaler.unscale_(self.optimiser)
        # with fp16 a step may overflow; it then counts neither for the weights nor for scores and allocators
        if not self.scaler.is_enabled() or bool(self.buffer.gradient.isfinite().all()):
            gradients = [p.grad for p in self.trainable[: self.slot_tensors] if p.grad is not None]
            self.collector.step(gradients, extra[:-1], loss_scale)
        else:
            self.buffer.gradient.zero_()
        if self.recipe.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.optimised, self.recipe.max_grad_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()
        self.progress.step += 1
        self.adapted.after_step(self.progress.step, self.total_steps)
        self.progress.examples += len(indices)
        return extra[-1].double() / loss_scale

    def _micro_batch(self, number: int, indices: Indices, batch_size: int) -> None:
        torch.manual_seed(derive_seed(self.job.seed, "dropout", self.progress.step, number))
        inputs, labels = self.split.batch(indices, self.device)
        self.buffer.begin(number)
        self.collector.begin_micro_batch(inputs["attention_mask"])
        if self.flops.wanted:
            with self.flops.counter() as counter:
                loss = self._backward(inputs, labels, batch_size)
            self.flops.set(counter, inputs["input_ids"].numel())
        else:
            loss = self._backward(inputs, labels, batch_size)
        self.buffer.put(number, torch.cat([self.collector.micro_batch_vector(), loss.float().reshape(1)]))

    def _backward(self, inputs: Mapping[str, Tensor], labels: Tensor, batch_size: int) -> Tensor:
        with autocast(self.recipe.precision, self.device):
            logits = self.model(**inputs).logits
        loss: Tensor = self.scaler.scale(loss_sum(logits, labels, self.task.data.regression) / batch_size)
        whole = loss
        if self.adapted.allocators:
            # every part of the batch carries its share, whoever computes it
            whole = loss + self.scaler.scale(self.adapted.penalty() * (len(labels) / batch_size))
        whole.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _measure(self, split: EncodedSplit) -> dict[str, float]:
        self.progress.evaluated += len(split)
        logits = predict_logits(
            self.model,
            split,
            self.task.data.num_labels,
            self.eval_batch_size,
            self.recipe.precision,
            self.group,
            self._tell,
        )
        return measure(logits, split.labels, self.task.data)

    def _test(self) -> dict[str, float]:
        measured = {suffix: self._measure(split) for suffix, split in self.task.tests.items()}
        return {f"{name}{suffix}": value for suffix, found in measured.items() for name, value in found.items()}

    def _result(self, best: Epoch | None, test: Mapping[str, float]) -> TrainResult:
        self._count_time()
        progress = self.progress
        return TrainResult(
            parameters=self.adapted.parameters,
            head_parameters=self.adapted.head_parameters,
            epochs=tuple(progress.epochs),
            best_epoch=best.epoch if best else 0,
            metrics=best.metrics if best else {},
            test=test,
            micro_batches=self.micro_batches,
            restarts=progress.restarts,
            cost=Cost(
                train_examples=progress.examples,
                eval_examples=progress.evaluated,
                steps=progress.step,
                # counted by the first process, which always has a part of the batch
                flops=self.group.gather(self.flops.flops)[0],
                device_seconds=progress.device_seconds,
                wall_seconds=progress.seconds,
                peak_memory_bytes=progress.peak_memory_bytes,
            ),
        )


def _by_name(rows: Mapping[str, Mapping[Slot, Value]]) -> dict[str, dict[str, Value]]:
    return {name: {str(slot): value for slot, value in row.items()} for name, row in rows.items()}


def default_micro_batches(device: torch.device) -> int:
    """Parts that a batch is split into unless the recipe says: 2 on a CPU, so two workers can share it, 1 on a GPU."""
    return 1 if device.type == "cuda" else 2
