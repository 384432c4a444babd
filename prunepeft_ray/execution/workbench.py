"""The backbone and the encoded task that a process works with."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from prunepeft_ray.backbones import Backbone, read_backbone
from prunepeft_ray.config import RecipeConfig
from prunepeft_ray.tasks import TaskData
from prunepeft_ray.training import EncodedTask, content_digest, cut_line, encode_task
from prunepeft_ray.training.optimiser import compute_type


@dataclass
class Workbench:
    """What a process needs for all jobs of a search, loaded and encoded once.

    Args:
        backbone: The frozen backbone.
        data: The task.
    """

    backbone: Backbone
    data: TaskData
    _encoded: dict[int, EncodedTask] = field(default_factory=dict)
    _digests: dict[int, str] = field(default_factory=dict)

    def task(self, max_length: int) -> EncodedTask:
        """Return the task encoded as token ids, with texts cut to ``max_length`` tokens."""
        if max_length not in self._encoded:
            self._encoded[max_length] = encode_task(self.data, self.backbone, max_length)
        return self._encoded[max_length]

    def digest(self, max_length: int) -> str:
        """Return a digest of the backbone's weights and the encoded task."""
        if max_length not in self._digests:
            self._digests[max_length] = content_digest(self.backbone, self.task(max_length))
        return self._digests[max_length]

    def cut_line(self, max_length: int) -> str | None:
        """Say how many texts are longer than ``max_length`` tokens and get cut; None if there are none."""
        return cut_line(self.task(max_length), self.backbone, max_length)


def read_for_workers(spec: RecipeConfig, model: str) -> Backbone:
    """Read a backbone to share among workers; if all of them train in bf16, it is half as large.

    It is a fresh copy: the one this process may be using can have an adapter or hooks, and would stay in memory.

    Raises:
        PrunePEFTError: If the backbone cannot be loaded.
    """
    backbone = read_backbone(model)
    # with other precisions, the type depends on the workers' device
    return backbone.store_frozen(torch.bfloat16) if spec.training.precision == "bf16" else backbone


def place(backbone: Backbone, precision: str, device: torch.device) -> Backbone:
    """Move a backbone to a device, with its frozen matrices in the type that they are multiplied in.

    Args:
        backbone: A backbone that nothing else uses; it can then only be trained in that precision.
        precision: That of the training.
        device: The device.

    Raises:
        InputError: If the device does not support the precision.
    """
    return backbone.store_frozen(compute_type(precision, device)).to(device)
