"""Into how many parts a batch is split, for gradient accumulation and data-parallel workers."""

from __future__ import annotations

import torch

from prunepeft_ray.config import TrainingConfig


def default_micro_batches(device: torch.device, workers: int) -> int:
    """Return the default number of micro-batches of jobs that a number of workers train together.

    On CPUs one for each worker: every further part costs time, as small products are slower. On GPUs 1; there,
    :func:`batch_parts` splits further, and results agree within rounding.
    """
    return 1 if device.type == "cuda" else workers


def batch_parts(recipe: TrainingConfig, device: torch.device, workers: int) -> int:
    """Return the number of parts that a batch is split into.

    Args:
        recipe: The recipe of the job.
        device: Device of each worker.
        workers: Number of workers that train together. On GPUs each gets a part; on CPUs the recipe alone decides, so
            that results are the same to the last bit however many workers there are.
    """
    parts = recipe.micro_batches or default_micro_batches(device, workers)
    return max(parts, workers) if device.type == "cuda" else parts
