"""A toy task that a tiny random model can learn, and jobs on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from tiny import english_words, filled
from torch import Tensor

from prunepeft_ray.backbones import Backbone
from prunepeft_ray.config import ModulesConfig, TrainingConfig
from prunepeft_ray.criteria import CRITERIA
from prunepeft_ray.jobs import TrainJob
from prunepeft_ray.modules import AdaptedBackbone
from prunepeft_ray.tasks import Split, TaskData
from prunepeft_ray.training import EncodedTask, SoloGroup, Trained, train
from prunepeft_ray.training.encoding import EncodedSplit
from prunepeft_ray.training.evaluation import measure, predict_logits

GOOD, BAD = ("good", "best", "love"), ("war", "black", "against")
ALL_CRITERIA = tuple(CRITERIA)


def toy_split(size: int, seed: int, regression: bool = False, pairs: bool = False) -> Split:
    """Sentences of 3 to 12 words; half of the words tell the label, by being good or bad."""
    rng = np.random.default_rng(seed)
    neutral = [word for word in english_words(60) if len(word) > 1]
    texts, labels = [], []
    for _ in range(size):
        length = int(rng.integers(3, 13))
        share = rng.random() if regression else float(rng.integers(2))
        telling = [str(rng.choice(GOOD if rng.random() < share else BAD)) for _ in range((length + 1) // 2)]
        words = [*telling, *(str(word) for word in rng.choice(neutral, length // 2))]
        rng.shuffle(words)
        texts.append(" ".join(words))
        labels.append(np.mean([word in GOOD for word in telling]) if regression else share)
    texts2 = [" ".join(text.split()[::-1][:4]) for text in texts] if pairs else None
    return Split(texts, texts2, np.array(labels, dtype=np.float32 if regression else np.int64))


def toy_task(train: int = 96, dev: int = 40, test: int = 40, **kind: bool) -> TaskData:
    """The toy task: two classes, or with ``regression=True`` the share of good words."""
    splits = [toy_split(size, seed, **kind) for seed, size in enumerate((train, dev, test))]
    if kind.get("regression"):
        return TaskData("toy", *splits, (), ("pearson", "spearman"), "pearson")
    return TaskData("toy", *splits, ("bad", "good"), ("accuracy", "f1"), "accuracy")


def make_job(backbone: Backbone, task: EncodedTask, **changes: Any) -> TrainJob:
    """A job on all slots of the backbone; recipe settings and job settings by keyword."""
    recipe = {
        "epochs": 2,
        "patience": None,
        "micro_batches": 2,
        "learning_rates": {"PA": 0.01, "SA": 0.01, "head": 0.01},
        "max_length": 32,
    }
    recipe |= {name: changes.pop(name) for name in list(changes) if name in TrainingConfig.model_fields}
    job = TrainJob(
        model="tiny",
        model_fingerprint=backbone.fingerprint,
        task="toy",
        task_fingerprint=task.data.fingerprint,
        metric=task.data.metric,
        architecture=filled(backbone.layers, "lora", "pfeiffer"),
        modules=ModulesConfig(),
        training=TrainingConfig.model_validate(recipe),
        seed=7,
    )
    return replace(job, **changes)


def train_alone(job: TrainJob, backbone: Backbone, task: EncodedTask) -> Trained:
    """Train a job in this process."""
    return train(job, backbone, task, SoloGroup(), lambda done, total: None)


def measured_again(
    job: TrainJob, backbone: Backbone, split: EncodedSplit, task: EncodedTask, state: Mapping[str, Tensor]
) -> dict[str, float]:
    """Metrics of saved weights, loaded afresh."""
    with AdaptedBackbone(backbone, job.architecture, job.modules, task.data.num_labels, seed=99) as adapted:
        adapted.load(state)
        logits = predict_logits(
            backbone.model, split, task.data.num_labels, job.training.eval_batch_size, "fp32", SoloGroup()
        )
    return measure(logits, split.labels, task.data)


def content(trained: Trained) -> Any:
    """Everything of a result that must not depend on time and place, and the weights' bytes."""
    result = trained.result
    epochs = [(epoch.epoch, epoch.train_loss, dict(epoch.metrics)) for epoch in result.epochs]
    weights = {name: tensor.numpy().tobytes() for name, tensor in trained.state.items()}
    scores = dict(result.scores), dict(result.halves)
    return epochs, result.best_epoch, dict(result.metrics), dict(result.test), scores, weights


def backbone_bytes(backbone: Backbone) -> dict[str, bytes]:
    """The backbone's own weights, without the head, which every job makes afresh."""
    head = set(backbone.head_parameters)
    return {n: t.detach().numpy().tobytes() for n, t in backbone.model.state_dict().items() if n not in head}
