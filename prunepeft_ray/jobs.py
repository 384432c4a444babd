"""The unit of work and the contract between methods, which decide, and executors, which run.

Everything that trains is a :class:`TrainJob`: warm-up turns, pruning rounds, candidates of a rival and the final
retraining alike. A method hands out jobs and is told their results; it knows nothing of Ray, files or torch.
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
"""Slot kinds that there were not from the beginning."""

WorkKind = Literal["warmup", "round", "candidate", "final"]


@dataclass(frozen=True)
class TrainJob:
    """An architecture to train from scratch on a frozen backbone: all that influences the result, and nothing else.

    Args:
        model: The backbone as the user named it; where to load it from.
        model_fingerprint: Digest of the backbone's weights.
        task: Name of the task, for people; the data is what the fingerprint says.
        task_fingerprint: Digest of the task's texts, labels and splits.
        metric: The metric that decides which epoch is best.
        architecture: Which slots are filled, and with what.
        modules: How modules start and scale.
        training: The recipe; its ``epochs`` is this job's.
        seed: Seeds initialisation, data order and dropout.
        train_size: Train on a stratified subset of that many examples; None for the whole training split.
        holdout: Share of that subset that is not trained on; used when ``evaluate`` is ``"holdout"``.
        evaluate: What the metrics of every epoch are measured on.
        test: Measure the test split once, with the best epoch's weights.
        collect: Criteria whose Theta is collected while training.
        threshold: Fixed t of the ``threshold`` criterion; None for a quantile.
        threshold_quantile: The quantile of absolute weights over all slots of a kind that gives t.
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

        Names of model and task are left out: the fingerprints stand for what they name, wherever it lies. So are the
        settings of :data:`LATER_KINDS` where there are no such slots, and jobs from before there were keep their ids.
        """
        content = {key: value for key, value in self.to_dict().items() if key not in ("model", "task")}
        kinds = {slot.kind for slot in self.architecture.slots}
        for kind in LATER_KINDS - kinds:
            del content["training"]["learning_rates"][kind]
        if "PF" not in kinds:
            del content["modules"]["parallel_scale"]
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
    """One epoch of a job.

    Args:
        epoch: 1-based.
        train_loss: Mean loss over the examples trained on.
        metrics: What was measured after it; ``loss`` among them; empty if nothing was.
        seconds: Wall-clock time, evaluation included.
    """

    epoch: int
    train_loss: float
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What a job cost, measured where it ran.

    Args:
        train_examples: Examples seen in training, each as often as it was seen.
        eval_examples: Examples evaluated.
        steps: Optimiser steps.
        flops: Floating-point operations of training; counted by torch on the first step and scaled by tokens.
        device_seconds: Wall-clock seconds times the number of devices (CPU workers or GPUs) that took part.
        wall_seconds: Wall-clock seconds.
        peak_memory_bytes: Most device memory on a GPU, most resident memory of the process on a CPU.
        redone_examples: Examples trained on beyond ``train_examples``, in attempts that were lost; no part of the
            job's price.
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
    """What came of a job.

    Args:
        parameters: PEFT parameters, as torch counts them.
        head_parameters: Parameters of the task head, which the budget does not count.
        epochs: The epochs, first to last.
        best_epoch: 1-based epoch with the best metric; the last one if nothing was measured.
        metrics: The best epoch's metrics.
        test: Metrics on the test split; empty unless the job asked for them.
        scores: Theta by criterion and slot (:class:`Slot` as text).
        halves: The same from two halves of what it was measured on; without slots for which it cannot be told.
        cost: What it cost.
        micro_batches: Parts that every batch was split into.
        restarts: How often the job was taken up again from a checkpoint.
        status: ``"done"``, or ``"failed"`` with a reason.
        reason: Why it failed.
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
    """A job with what people want to know about it, which does not influence its result.

    Args:
        job: The job.
        kind: Its part in the method.
        label: A few words for progress displays, such as ``"round 2/3"``.
    """

    job: TrainJob
    kind: WorkKind
    label: str


@dataclass(frozen=True)
class Decision:
    """What a method thought of one slot at one moment.

    Args:
        step: ``"warmup"`` or ``"round"``.
        index: 1-based number of the turn or round.
        slot: The slot, as text.
        partition: Its partition, as text.
        criteria: The criteria that judged it.
        probability: Probability of being pruned, p(m); for a warm-up turn the criterion's score.
        removed: Whether it was removed.
        job_id: The job whose scores this rests on.
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
    """A search method: decides what to train, from nothing but its settings, its seed and what it is told.

    Telling a fresh method the same results in any order restores it exactly; that is how a search resumes.
    """

    name: str

    @property
    def decisions(self) -> Sequence[Decision]:
        """All decisions so far, first to last."""

    @property
    def done(self) -> bool:
        """Whether the search has ended and :meth:`best` is final."""

    def ask(self) -> tuple[Work, ...]:
        """Hand out the work that may run now, in parallel; each piece once. Empty: wait for results, or done."""

    def tell(self, job: TrainJob, result: TrainResult) -> None:
        """Feed back the result of a job that was handed out."""

    def best(self) -> Architecture:
        """The best architecture by what the method has been told so far."""
