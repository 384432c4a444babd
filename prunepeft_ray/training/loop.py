"""The training loop of a job."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from prunepeft_ray.architecture import Slot
from prunepeft_ray.backbones import Backbone
from prunepeft_ray.criteria.collector import Collector, Update
from prunepeft_ray.errors import InputError
from prunepeft_ray.jobs import Cost, Epoch, TrainJob, TrainResult
from prunepeft_ray.modules import AdaptedBackbone
from prunepeft_ray.seeds import derive_seed
from prunepeft_ray.training.batches import batch_parts
from prunepeft_ray.training.checkpoint import Keeper, Progress, State, UnusableStateError
from prunepeft_ray.training.cost import TrainingFlops, peak_memory, split_batch, training_flops
from prunepeft_ray.training.encoding import EncodedSplit, EncodedTask, Indices, epoch_batches
from prunepeft_ray.training.evaluation import Starting, at_the_bottom, loss_sum, measure, predict_logits
from prunepeft_ray.training.frozen_prefix import frozen_prefix
from prunepeft_ray.training.gradients import GradientBuffer
from prunepeft_ray.training.group import Group
from prunepeft_ray.training.memory import is_out_of_memory
from prunepeft_ray.training.optimiser import autocast, build_optimiser, build_schedule
from prunepeft_ray.training.prefix_cache import PrefixCache

Value = TypeVar("Value")

OnStep = Callable[[int, int], None]
"""Called after every step and every evaluated batch, with the number of examples trained on so far, and in total."""


@dataclass(frozen=True)
class Trained:
    """The result of a job, and the weights of its best epoch."""

    result: TrainResult
    state: Mapping[str, Tensor]


class _NotFiniteError(ArithmeticError):
    """The loss is NaN or infinite."""


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
    cache: PrefixCache | None = None,
) -> Trained:
    """Train a job from scratch, evaluate it and score its slots.

    The result does not depend on the number of processes in the group: batches are split into the recipe's
    micro-batches whichever process computes them, dropout is seeded per micro-batch, and sums are taken in a fixed
    order. Nor does it depend on interruptions: a job that is resumed from a saved state yields bitwise the same result
    as one that was never interrupted.

    Args:
        job: The job to train.
        backbone: The job's backbone; it is adapted during the call, and restored afterwards.
        task: The job's task.
        group: The processes that train the job together.
        on_step: Callback that receives the progress.
        keeper: Saves the job's state, on the first process of the group only; None to save nothing.
        split: Number of parts that every micro-batch and every evaluation batch is divided into, to save memory.
        cache: Where the output of frozen layers is kept, which does not change the result; None to keep nothing.

    Returns:
        Result and weights. If the loss is not finite, the result has status ``"failed"``.
    """
    # only the first process loads, so that all start from the same state
    kept = group.gather(keeper.load() if keeper else None)[0]
    flops = training_flops(backbone, job.architecture, job.modules, task.data.num_labels)
    while True:
        with AdaptedBackbone(backbone, job.architecture, job.modules, task.data.num_labels, job.seed) as adapted:
            try:
                run = _Run(job, adapted, task, group, on_step, keeper, split, flops, cache)
                if kept is not None:
                    run.restore(kept)
                return run.train()
            except UnusableStateError as error:
                # it may have been loaded partially, so start over with new modules
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
        flops: TrainingFlops,
        cache: PrefixCache | None,
    ) -> None:
        self.job, self.adapted, self.task, self.group, self.on_step = job, adapted, task, group, on_step
        self.keeper, self.flops = keeper, flops
        self.model = adapted.backbone.model
        self.device = adapted.backbone.device
        self.split, self.held_out = task.subset(job.train_size, job.holdout)
        self.recipe = job.training
        self.prefix = frozen_prefix(job, adapted.backbone, cache)
        self.starting: Starting = self.prefix.starting if self.prefix else at_the_bottom
        self.micro_batches = split * batch_parts(self.recipe, self.device, group.world)
        self.eval_batch_size = max(1, self.recipe.eval_batch_size // split)
        self.steps_per_epoch = math.ceil(len(self.split) / self.recipe.batch_size)
        self.optimiser = build_optimiser(adapted.optimised, self.recipe)
        self.total_steps = self.steps_per_epoch * self.recipe.epochs
        self.schedule = build_schedule(self.optimiser, self.recipe, self.total_steps)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.recipe.precision == "fp16")
        self.collector = self._collector()
        trainable = list(adapted.trainable.values())
        # the last of the further values is the loss
        self.buffer = GradientBuffer(trainable, self.collector.vector_size + 1, self.micro_batches)
        self.slot_tensors = sum(len(found) for found in adapted.slot_parameters.values())
        self.trainable = trainable
        self.optimised = list(adapted.optimised.values())
        self.progress = Progress(loss=torch.zeros((), dtype=torch.float64, device=self.device))
        self.clock = time.monotonic()

    def _collector(self) -> Collector:
        adapted = self.adapted
        unobservable = [site.slot for site in adapted.sites if site.update is None]
        if unobservable and self.job.collect:
            module = adapted.architecture[unobservable[0]].type
            raise InputError(f"slot {unobservable[0]}: criteria cannot be collected for '{module}' modules")
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
        # Theta describes the modules at the end of the pass; the metrics are those of the best epoch
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
        """Whether all epochs are done, or there was no improvement for too long."""
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
        metrics = self._measure(evaluated, self.starting) if evaluated is not None else {}
        if metrics:
            # the weights may have become non-finite in the last step
            _check_finite(self.job.evaluate, metrics["loss"], number)
        self._end_epoch(Epoch(number, train_loss, metrics, progress.epoch_seconds + self._count_time()))

    def _end_epoch(self, epoch: Epoch) -> None:
        progress = self.progress
        best = progress.epochs[progress.best_epoch - 1] if progress.best_epoch else None
        progress.epochs.append(epoch)
        # an epoch counts only once all modules are down to their final sizes, which they are at the end
        if self.adapted.within_size and (best is None or self._value(epoch) > self._value(best)):
            progress.best_epoch = epoch.epoch
            progress.best_state = self.adapted.state() if self._chooses_epoch else {}
        progress.batch, progress.epoch_seconds = 0, 0.0
        progress.loss.zero_()
        # a finished job is committed right away, unless it still has to be evaluated on the test split
        if self.keeper and (not self._over or self.job.test):
            self._keep()

    def _tell(self) -> None:
        self.on_step(self.progress.examples, len(self.split) * self.recipe.epochs)

    def _count_time(self) -> float:
        """Add the time since the last call to the job's cost, and return it."""
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
                "allocators": self.adapted.allocator_state(),
            }
        )

    def restore(self, state: State) -> None:
        """Resume from a saved state.

        Raises:
            UnusableStateError: If the state does not belong to this job; it may have been loaded partially.
        """
        try:
            self._restore(state)
        except (InputError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise UnusableStateError(f"it does not belong to this job: {text}") from error

    def _restore(self, state: State) -> None:
        self.progress = Progress.from_state(state["progress"], self.device)
        self.progress.restarts += 1
        self.adapted.load_training(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.collector.load(state["scores"])
        # states of earlier versions have no allocators
        self.adapted.load_allocators(state.get("allocators", {}))

    def _step(self, indices: Indices) -> Tensor:
        """Train on one batch; return its mean loss, on the device."""
        self.buffer.clear()
        parts = split_batch(indices, self.micro_batches)
        for number in range(self.group.rank, len(parts), self.group.world):
            self._micro_batch(number, parts[number], len(indices))
        self.progress.flops += self.flops.of_step(self.split.lengths[part] for part in parts)
        extra = self.buffer.total(self.group)
        loss_scale = self.scaler.get_scale()
        self.adapted.before_step(loss_scale)
        self.scaler.unscale_(self.optimiser)
        # with fp16, a step may overflow; it then affects neither the weights nor scores and allocators
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
        with self.starting(self.split, indices):
            loss = self._backward(inputs, labels, batch_size)
        self.buffer.put(number, torch.cat([self.collector.micro_batch_vector(), loss.float().reshape(1)]))

    def _backward(self, inputs: Mapping[str, Tensor], labels: Tensor, batch_size: int) -> Tensor:
        with autocast(self.recipe.precision, self.device):
            logits = self.model(**inputs).logits
        loss: Tensor = self.scaler.scale(loss_sum(logits, labels, self.task.data.regression) / batch_size)
        whole = loss
        if self.adapted.allocators:
            # each part of the batch carries its share of the penalty, whichever process computes it
            whole = loss + self.scaler.scale(self.adapted.penalty() * (len(labels) / batch_size))
        whole.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _measure(self, split: EncodedSplit, starting: Starting = at_the_bottom) -> dict[str, float]:
        self.progress.evaluated += len(split)
        logits = predict_logits(
            self.model,
            split,
            self.task.data.num_labels,
            self.eval_batch_size,
            self.recipe.precision,
            self.group,
            self._tell,
            starting,
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
                flops=float(progress.flops),
                device_seconds=progress.device_seconds,
                wall_seconds=progress.seconds,
                peak_memory_bytes=progress.peak_memory_bytes,
            ),
        )


def _by_name(rows: Mapping[str, Mapping[Slot, Value]]) -> dict[str, dict[str, Value]]:
    return {name: {str(slot): value for slot, value in row.items()} for name, row in rows.items()}
