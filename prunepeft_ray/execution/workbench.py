"""The backbone and the encoded task that a process works with."""

from __future__ import annotations

from dataclasses import dataclass, field

from prunepeft_ray.backbones import Backbone
from prunepeft_ray.tasks import TaskData
from prunepeft_ray.training import EncodedTask, content_digest, cut_line, encode_task


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
