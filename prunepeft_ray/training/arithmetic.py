"""What decides the bits of a job's result besides the job itself: the version of the code, libraries and device."""

from __future__ import annotations

import hashlib
import importlib.metadata

import torch
from torch import Tensor

from prunepeft_ray.backbones import Backbone
from prunepeft_ray.training.encoding import EncodedTask

ARITHMETIC = 1
"""Version of the arithmetic. Raise it with every change that may change a single bit of any job's result or scores.

Results of other versions in a pool of finished jobs are not reused then.
"""
LIBRARIES = ("transformers", "peft", "numpy")
SAMPLE = 4096
"""Approximate number of weights of each tensor that are digested; training a tensor changes nearly all of them."""


def arithmetic_of(device: torch.device) -> dict[str, str]:
    """Return what decides how a device rounds: versions, and the device's kind."""
    found = {"arithmetic": str(ARITHMETIC), "torch": torch.__version__}
    found |= {name: importlib.metadata.version(name) for name in LIBRARIES}
    if device.type == "cuda":
        return found | {"device": torch.cuda.get_device_name(device)}
    # sums depend on the number of threads
    return found | {"device": torch.backends.cpu.get_cpu_capability(), "threads": str(torch.get_num_threads())}


def content_digest(backbone: Backbone, task: EncodedTask) -> str:
    """Return a digest of what a job really computes with: a sample of all frozen weights, and all token ids and labels.

    A backbone's fingerprint covers only part of its files and not its tokenizer, which suffices to notice that a model
    has changed within a run, but not to distinguish all models of a machine.

    Args:
        backbone: The backbone, without adapter.
        task: The task, encoded by the backbone's tokenizer.
    """
    digest = hashlib.sha256()
    head = backbone.head_parameters
    for name, weights in backbone.model.named_parameters():
        if name not in head:
            flat = weights.detach().flatten()
            _update(digest, f"{name} {weights.dtype}", weights.shape, flat[:: max(1, len(flat) // SAMPLE)])
    for split in (task.train, task.dev, *task.tests.values()):
        for tensor in (split.input_ids, split.token_types, torch.from_numpy(split.lengths), split.labels):
            if tensor is not None:
                _update(digest, str(tensor.dtype), tensor.shape, tensor)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, name: str, shape: torch.Size, values: Tensor) -> None:
    digest.update(f"{name} {tuple(shape)}\n".encode())
    digest.update(values.contiguous().cpu().view(torch.uint8).numpy().data)
