"""Evaluation: predictions of a model in its current state, and their metrics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunepeft_ray.tasks import TaskData, compute_metrics
from prunepeft_ray.training.encoding import EncodedSplit, Indices
from prunepeft_ray.training.group import Group
from prunepeft_ray.training.optimiser import autocast

Starting = Callable[[EncodedSplit, Indices], AbstractContextManager[None]]
"""Returns the context in which the model is called with a batch of these examples."""


def at_the_bottom(_split: EncodedSplit, _indices: Indices) -> AbstractContextManager[None]:
    """Let the model run as it is, from the token ids on."""
    return nullcontext()


def loss_sum(logits: Tensor, labels: Tensor, regression: bool) -> Tensor:
    """Return the sum of the loss over examples: cross-entropy, or squared error for regression.

    Args:
        logits: Shape (batch, outputs).
        labels: Shape (batch,).
        regression: Whether labels are numbers to predict.
    """
    if regression:
        return F.mse_loss(logits[:, 0].float(), labels.float(), reduction="sum")
    return F.cross_entropy(logits.float(), labels, reduction="sum")


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    split: EncodedSplit,
    outputs: int,
    batch_size: int,
    precision: str,
    group: Group,
    on_batch: Callable[[], None] = lambda: None,
    starting: Starting = at_the_bottom,
) -> Tensor:
    """Run a model on a split; the group's processes share the batches.

    Args:
        model: The model.
        split: The examples.
        outputs: Number of logits per example.
        batch_size: Examples per batch.
        precision: ``training.precision`` of the recipe.
        group: The processes that share the batches.
        on_batch: Called after every batch.
        starting: Where in the model a batch starts.

    Returns:
        Logits on the CPU, shape (examples, outputs), in the split's order.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    logits = torch.zeros(len(split), outputs, device=device)
    order = np.argsort(split.lengths, kind="stable")
    batches = np.split(order, range(batch_size, len(order), batch_size))
    for indices in batches[group.rank :: group.world]:
        inputs, _ = split.batch(indices, device)
        with starting(split, indices), autocast(precision, device):
            logits[torch.from_numpy(indices).to(device)] = model(**inputs).logits.float()
        on_batch()
    group.sum_(logits)
    model.train(was_training)
    return logits.cpu()


def to_predictions(logits: Tensor, regression: bool) -> npt.NDArray[np.float32] | npt.NDArray[np.int64]:
    """Convert logits to class ids, or to numbers for regression."""
    found: npt.NDArray[np.float32] = (logits[:, 0] if regression else logits.argmax(dim=1)).numpy()
    return found


def measure(logits: Tensor, labels: Tensor, data: TaskData) -> dict[str, float]:
    """Compute a task's metrics and the mean loss.

    Args:
        logits: Shape (examples, outputs), on the CPU.
        labels: Shape (examples,).
        data: The task.
    """
    predictions = to_predictions(logits, data.regression)
    metrics = compute_metrics(data.metrics, predictions, labels.numpy(), num_labels=data.num_labels)
    return {"loss": float(loss_sum(logits, labels, data.regression)) / max(1, len(labels))} | metrics
