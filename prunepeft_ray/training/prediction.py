"""Predictions and evaluation with a trained adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prunepeft_ray.backbones import Backbone, load_backbone
from prunepeft_ray.errors import InputError, quoted
from prunepeft_ray.modules import (
    AdaptedBackbone,
    AdapterConfig,
    damaged_adapter,
    read_adapter_config,
    read_adapter_weights,
)
from prunepeft_ray.storage.paths import check_within, is_folder, open_path
from prunepeft_ray.tasks import METRICS, Split, TaskData, Tell, log_line
from prunepeft_ray.training.encoding import count_cut, cut_text, encode
from prunepeft_ray.training.evaluation import measure, predict_logits, to_predictions
from prunepeft_ray.training.group import SoloGroup

BATCH_SIZE = 64


@dataclass(frozen=True)
class Prediction:
    """The prediction for one example.

    Args:
        label: Name of the predicted class, or None for regression.
        value: Probability of that class, or the predicted number.
    """

    label: str | None
    value: float


class Predictor:
    """A backbone with a saved adapter and head, ready to use.

    Args:
        config: The adapter's configuration.
        adapted: The backbone that carries the adapter.
    """

    def __init__(self, config: AdapterConfig, adapted: AdaptedBackbone) -> None:
        self.config = config
        self._adapted = adapted

    @property
    def backbone(self) -> Backbone:
        """The backbone that carries the adapter."""
        return self._adapted.backbone

    def logits(self, split: Split, tell: Tell = log_line) -> np.ndarray:
        """Compute logits, shape (examples, outputs), and report how many texts were truncated.

        Raises:
            InputError: If a logit is not finite.
        """
        encoded = encode(split, self.backbone, self.config.max_length)
        if cut := count_cut(split, encoded, self.backbone, self.config.max_length):
            tell(cut_text(f"{cut:,} of {len(split):,}", self.backbone, self.config.max_length))
        found: np.ndarray = predict_logits(
            self.backbone.model, encoded, self.config.num_outputs, BATCH_SIZE, "fp32", SoloGroup()
        ).numpy()
        if not np.isfinite(found).all():
            raise InputError(f"the adapter on '{self.config.model}' is damaged: it yields non-finite logits")
        return found

    def predict(self, texts: list[str], texts2: list[str] | None = None, tell: Tell = log_line) -> list[Prediction]:
        """Predict the class or number of each text, or pair of texts.

        Args:
            texts: The (first) texts.
            texts2: The second texts of pairs, or None.
            tell: Callback that receives how many texts were truncated, if any.
        """
        if not texts:
            return []
        split = Split(texts, texts2, np.zeros(len(texts), dtype=np.int64))
        logits = torch.from_numpy(self.logits(split, tell))
        found = to_predictions(logits, regression=not self.config.labels)
        if not self.config.labels:
            return [Prediction(None, float(value)) for value in found]
        probabilities = logits.softmax(dim=1).numpy().max(axis=1)
        return [
            Prediction(self.config.labels[int(label)], float(probability))
            for label, probability in zip(found, probabilities, strict=True)
        ]

    def evaluate(self, split: Split, tell: Tell = log_line) -> dict[str, float]:
        """Compute the adapter's metrics and the mean loss on labelled examples.

        Args:
            split: The examples.
            tell: Callback that receives how many texts were truncated, if any.

        Raises:
            InputError: If there are no examples.
        """
        if not len(split):
            raise InputError("there are no examples to evaluate")
        empty = split.take([])
        metrics = self.config.metrics
        data = TaskData(self.config.task, empty, empty, empty, self.config.labels, metrics, metrics[0])
        return measure(torch.from_numpy(self.logits(split, tell)), torch.from_numpy(split.labels), data)

    def close(self) -> None:
        """Remove the adapter from the backbone."""
        self._adapted.close()


def load_adapter(folder: str | Path, model: str | None = None, device: str = "cpu") -> Predictor:
    """Load a saved adapter onto its backbone.

    Args:
        folder: An ``adapter`` folder, or the folder of a run that has one; a path or a URL such as ``s3://...``.
        model: Where to load the backbone from; default: as in training.
        device: Torch device.

    Raises:
        InputError: If there is no adapter, or the backbone's weights are not the ones it was trained on.
    """
    path = open_path(folder)
    if is_folder(path / "adapter"):
        path = path / "adapter"
        check_within(path, path.parent)
    config = read_adapter_config(path)
    with damaged_adapter(path):
        _check_metrics(config)
    backbone = load_backbone(model or config.model, device)
    if backbone.fingerprint != config.model_fingerprint:
        raise InputError(
            f"{path}: the adapter was trained on different weights from those of '{model or config.model}' "
            f"(fingerprint {quoted(config.model_fingerprint)}, found {backbone.fingerprint})"
        )
    state = read_adapter_weights(path, config, backbone)
    adapted = AdaptedBackbone(backbone, config.architecture, config.modules, config.num_outputs, seed=0)
    try:
        with damaged_adapter(path):
            adapted.load(state)
    except InputError:
        adapted.close()
        raise
    adapted.backbone.model.eval()
    return Predictor(config, adapted)


def _check_metrics(config: AdapterConfig) -> None:
    for name in config.metrics:
        if METRICS[name].regression != (not config.labels):
            raise InputError(f"the metric '{name}' does not suit the adapter's labels")
