"""Metrics by name; for all of them, larger is better."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prunepeft_ray.errors import InputError
from prunepeft_ray.registry import Registry

Array = npt.NDArray[Any]

CLASSIFICATION_METRICS = ("accuracy", "f1", "matthews")
REGRESSION_METRICS = ("pearson", "spearman")


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        description: One-line description.
        regression: Whether it applies to numbers (True) or to classes (False).
        function: Computes the metric from predictions, labels and the number of classes (None: inferred from the ids
            that occur).
    """

    description: str
    regression: bool
    function: Callable[[Array, Array, int | None], float]


METRICS: Registry[Metric] = Registry("metric")


def compute_metrics(
    names: Sequence[str], predictions: npt.ArrayLike, labels: npt.ArrayLike, num_labels: int | None = None
) -> dict[str, float]:
    """Compute metrics of predictions; every value is finite, and larger is better.

    An undefined correlation (constant or single values, non-finite predictions) is 0, as are an F1 score without
    predicted and true positives and a Matthews coefficient with a single class.

    Args:
        names: Keys of ``METRICS``.
        predictions: Shape (N,): class ids, or numbers.
        labels: Shape (N,), likewise.
        num_labels: Number of classes of the task. It determines whether f1 is that of class 1 (two classes) or the
            mean over all classes (more), where classes that do not occur count as 0. Default: inferred from the ids
            that occur.

    Raises:
        InputError: If there is no such metric.
        ValueError: If the shapes differ, or there are no examples.
    """
    predicted, real = np.asarray(predictions), np.asarray(labels)
    if predicted.shape != real.shape or predicted.ndim != 1 or not len(real):
        raise ValueError(f"expected two equally long vectors, got shapes {predicted.shape} and {real.shape}")
    metrics = {name: METRICS[name] for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # undefined values become 0, as documented
        values = {name: metric.function(predicted, real, num_labels) for name, metric in metrics.items()}
    return {name: value if math.isfinite(value) else 0.0 for name, value in values.items()}


def choose_metrics(metric: str | None, defaults: Sequence[str], regression: bool) -> tuple[tuple[str, ...], str]:
    """Return the metrics to compute, and the primary one.

    Args:
        metric: The user's choice of the primary metric; None takes the first of the defaults.
        defaults: Metrics that are always computed.
        regression: Whether the task predicts numbers.

    Raises:
        InputError: If there is no such metric, or it does not suit the task.
    """
    if metric is None:
        return tuple(defaults), defaults[0]
    if METRICS[metric].regression != regression:
        kind = "numbers" if regression else "classes"
        suited = ", ".join(name for name in METRICS if METRICS[name].regression == regression)
        raise InputError(f"task.metric: '{metric}' does not suit a task that predicts {kind}; suitable: {suited}")
    return tuple(dict.fromkeys([*defaults, metric])), metric


def _accuracy(predictions: Array, labels: Array, num_labels: int | None) -> float:  # noqa: ARG001
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def _f1(predictions: Array, labels: Array, num_labels: int | None) -> float:
    from sklearn.metrics import f1_score

    classes = num_labels or int(max(predictions.max(), labels.max())) + 1
    if classes <= 2:
        return float(f1_score(labels, predictions, average="binary", zero_division=0.0))
    # over all classes of the task, so that values of different splits and models are comparable
    return float(f1_score(labels, predictions, labels=range(classes), average="macro", zero_division=0.0))


def _matthews(predictions: Array, labels: Array, num_labels: int | None) -> float:  # noqa: ARG001
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def _pearson(predictions: Array, labels: Array, num_labels: int | None) -> float:  # noqa: ARG001
    from scipy.stats import pearsonr

    return _correlation(pearsonr, predictions, labels)


def _spearman(predictions: Array, labels: Array, num_labels: int | None) -> float:  # noqa: ARG001
    from scipy.stats import spearmanr

    return _correlation(spearmanr, predictions, labels)


def _correlation(function: Callable[[Array, Array], Any], predictions: Array, labels: Array) -> float:
    x, y = predictions.astype(np.float64), labels.astype(np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(function(x, y).statistic)


METRICS.register("accuracy", Metric("fraction of correct classes", False, _accuracy))
METRICS.register(
    "f1", Metric("F1 of class 1 for two classes; macro average over all classes of the task for more", False, _f1)
)
METRICS.register("matthews", Metric("Matthews correlation coefficient", False, _matthews))
METRICS.register("pearson", Metric("Pearson (linear) correlation", True, _pearson))
METRICS.register("spearman", Metric("Spearman rank correlation", True, _spearman))
