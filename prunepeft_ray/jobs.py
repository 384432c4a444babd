"""Training jobs, and the contract between methods, which decide, and executors, which run jobs.

All training is done in :class:`TrainJob` units: warm-up turns, pruning rounds, candidates of baselines and the final
retraining. A method hands out jobs and receives their results; it knows nothing of Ray, files or torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.config import ModulesConfig, TrainingConfig

LATER_KINDS = frozenset({"FT", "PF", "PT"})
"""Slot kinds that were added in later versions."""

WorkKind = Literal["warmup", "round", "candidate", "final"]


@dataclass(frozen=True)
class TrainJob:
    """A training job, which trains an architecture from scratch on a frozen backbone.

    It contains everything that influences the result, and nothing else.

    Args:
        model: The backbone to load, as the user named it.
        model_fingerprint: Digest of the backbone's weights.
        task: Display name of the task; the fingerprint identifies the data.
        task_fingerprint: Digest of the task's texts, labels and splits.
        metric: The metric by which the best epoch is chosen.
        architecture: Which slots are filled, and with what.
        modules: How modules are initialised and scaled.
        training: The recipe; its ``epochs`` is that of this job.
        seed: Seed of initialisation, data order and dropout.
        train_size: Size of the stratified training subset; None for the whole training split.
        holdout: Fraction of the subset that is held out from training; used if ``evaluate`` is ``"holdout"``.
        evaluate: What to evaluate on after every epoch.
        test: Whether to evaluate on the test split at the end, with the best epoch's weights.
        collect: Criteria whose Theta is collected during training.
        threshold: Fixed t of the ``threshold`` criterion; None for a quantile.
        threshold_quantile: The quantile, of the absolute weights of all slots of the same kind, to use as t.
    """

    model: str
    model_fingerprint: str
    task: str
    task_fingerprint: str
    metric: str
    architecture: Architecture
    modules: ModulesConfig
    training: TrainingConfig
    seed: int
    train_size: int | None = None
    holdout: float = 0.0
    evaluate: Literal["none", "dev", "holdout"] = "dev"
    test: bool = False
    collect: tuple[str, ...] = ()
    threshold: float | None = None
    threshold_quantile: float = 0.1

    @cached_property
    def id(self) -> str:
        """A digest of the job's content, 16 hexadecimal digits.

        It excludes the names of model and task, which the fingerprints identify wherever they are stored. It also
        excludes settings of :data:`LATER_KINDS` if there are no such slots, and ``frozen_dropout`` if it is on or no
        layer is frozen, so that jobs of earlier versions keep their ids.
        """
        content = {key: value for key, value in self.to_dict().items() if key not in ("model", "task")}
        kinds = {slot.kind for slot in self.architecture.slots}
        for kind in LATER_KINDS - kinds:
            del content["training"]["learning_rates"][kind]
        if "PF" not in kinds:
            del content["modules"]["parallel_scale"]
        if self.training.frozen_dropout or any(slot.layer == 0 for slot in self.architecture.slots):
            del content["training"]["frozen_dropout"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "architecture": self.architecture.to_dict(),
            "modules": self.modules.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json"),
            "collect": list(self.collect),
        }


@dataclass(frozen=True)
class Epoch:
    """An epoch of a job.

    Args:
        epoch: 1-based number of the epoch.
        train_loss: Mean loss over the examples trained on.
        metrics: Metrics after the epoch, including ``loss``; empty if none were computed.
        seconds: Wall-clock time, including evaluation.
    """

    epoch: int
    train_loss: float
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Cost:
    """The cost of a job, measured where it ran.

    Args:
        train_examples: Examples trained on, counted every time.
        eval_examples: Examples evaluated.
        steps: Number of optimiser steps.
        flops: Floating-point operations in training, computed from the shapes of all matrix products.
        device_seconds: Wall-clock seconds times the number of devices (CPU workers or GPUs).
        wall_seconds: Wall-clock seconds.
        peak_memory_bytes: Peak device memory on a GPU, or peak resident memory of the process on a CPU.
        redone_examples: Examples trained on in addition to ``train_examples``, in attempts that were lost; not charged
            to the job.
    """

    train_examples: int = 0
    eval_examples: int = 0
    steps: int = 0
    flops: float = 0.0
    device_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0
    redone_examples: int = 0


@dataclass(frozen=True)
class TrainResult:
    """The result of a job.

    Args:
        parameters: Number of PEFT parameters, as counted by torch.
        head_parameters: Number of parameters of the task head, which the budget excludes.
        epochs: The epochs, first to last.
        best_epoch: 1-based epoch with the best metric; the last one if there was no evaluation.
        metrics: Metrics of the best epoch.
        test: Metrics on the test split; empty unless the job requested them.
        scores: Theta by criterion and slot (:class:`Slot` as text).
        halves: Theta from two halves of the measurements; slots for which it is undefined are left out.
        cost: The cost of the job.
        micro_batches: Number of parts that every batch was split into.
        restarts: How often the job was resumed from a checkpoint.
        status: ``"done"``, or ``"failed"`` with a reason.
        reason: Why the job failed.
    """

    parameters: int
    head_parameters: int
    epochs: tuple[Epoch, ...]
    best_epoch: int
    metrics: Mapping[str, float]
    test: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    halves: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    cost: Cost = Cost()
    micro_batches: int = 0
    restarts: int = 0
    status: Literal["done", "failed"] = "done"
    reason: str = ""


@dataclass(frozen=True)
class Work:
    """A work item: a job with information for users that does not influence its result.

    Args:
        job: The job.
        kind: The job's role in the method.
        label: Short description for progress displays, such as ``"round 2/3"``.
    """

    job: TrainJob
    kind: WorkKind
    label: str


@dataclass(frozen=True)
class Decision:
    """A method's decision on a slot in a warm-up turn or pruning round.

    Args:
        step: ``"warmup"`` or ``"round"``.
        index: 1-based number of the turn or round.
        slot: The slot, as text.
        partition: Its partition, as text.
        criteria: The criteria that judged it.
        probability: Probability of being pruned, p(m); in a warm-up turn, the criterion's score.
        removed: Whether the slot was removed.
        job_id: The job whose scores the decision is based on.
    """

    step: str
    index: int
    slot: str
    partition: str
    criteria: tuple[str, ...]
    probability: float
    removed: bool
    job_id: str


class Method(Protocol):
    """A search method, which decides what to train based only on its settings, its seed and the results it receives.

    Reporting the same results to a new instance, in any order, restores its state exactly; this is how a search is
    resumed.
    """

    name: str

    @property
    def decisions(self) -> Sequence[Decision]:
        """All decisions so far, first to last."""

    @property
    def done(self) -> bool:
        """Whether the search has ended and :meth:`best` is final."""

    def ask(self) -> tuple[Work, ...]:
        """Return the work that may run now, in parallel; each item once. Empty while waiting for results, or done."""

    def tell(self, job: TrainJob, result: TrainResult) -> None:
        """Report the result of a job that was handed out."""

    def best(self) -> Architecture:
        """Return the best architecture according to the results so far."""
