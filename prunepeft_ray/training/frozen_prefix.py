"""The part of a backbone below the lowest filled slot, whose output for an example is the same in every job.

Without dropout there, nothing that a job trains reaches the embeddings and the layers below its lowest filled slot. The
hidden states that enter the lowest filled layer are then the same in every epoch, with every seed, and for every
architecture with that lowest layer. They are kept on disk where reading is faster than computing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from prunepeft_ray.backbones import Backbone
from prunepeft_ray.jobs import TrainJob
from prunepeft_ray.training.encoding import EncodedSplit, Indices
from prunepeft_ray.training.optimiser import autocast
from prunepeft_ray.training.prefix_cache import PrefixCache, StateFile

FORMAT = 1
"""Version of how states are computed and stored."""
FLOP_RATE = {"cpu": 5e10, "cuda": 1e14}
"""Rough speed of a forward pass, in operations per second."""
BYTE_RATE = 1e9
"""Rough speed of reading and of writing states, in bytes per second."""


def frozen_prefix(job: TrainJob, backbone: Backbone, cache: PrefixCache | None) -> FrozenPrefix | None:
    """Return the frozen prefix of a job; None if the whole model runs as it is, with dropout everywhere.

    Args:
        job: The job.
        backbone: The backbone, with the job's modules inserted.
        cache: Where states are kept; None to compute them every time, which gives bitwise the same.
    """
    layers = min((slot.layer for slot in job.architecture.slots), default=backbone.layers)
    if job.training.frozen_dropout or not layers:
        return None
    return FrozenPrefix(backbone, layers, job.training.precision, job.training.epochs, cache)


class FrozenPrefix:
    """The embeddings and the lowest layers of a backbone, without dropout.

    On a CPU, every example is computed by itself, without padding, so that its states do not depend on the batch, bit
    for bit. On a GPU, where last digits may differ anyway, a batch is computed at once.

    Args:
        backbone: The backbone, with modules inserted.
        layers: Number of layers in the prefix; at least 1.
        precision: ``training.precision`` of the recipe.
        epochs: Maximum number of epochs of the job.
        cache: Where states are kept; None to compute them every time.
    """

    def __init__(self, backbone: Backbone, layers: int, precision: str, epochs: int, cache: PrefixCache | None) -> None:
        self._backbone, self._precision, self._epochs, self._cache = backbone, precision, epochs, cache
        own = list(backbone.model.get_submodule(backbone.family.layers))
        self._last, self._start = _Last(own[layers - 1]), _Start()
        self._below = nn.ModuleList([*own[: layers - 1], self._last])
        self._above = nn.ModuleList([self._start, *own[layers:]])
        self._kept: dict[str, _Kept | None] = {}

    @contextmanager
    def starting(self, split: EncodedSplit, indices: Indices) -> Iterator[None]:
        """Return a context in which the model, called with a batch of these examples, starts above the prefix."""
        self._start.states = pad_sequence(self.states(split, indices), batch_first=True)
        with self._backbone.running(self._above):
            yield

    def states(self, split: EncodedSplit, indices: Indices) -> list[Tensor]:
        """Return the states of some examples, each of shape (tokens, width), from the cache where possible."""
        if split.digest not in self._kept:
            self._kept[split.digest] = self._open(split)
        if (kept := self._kept[split.digest]) is None:
            return self.compute(split, indices)
        found = {i: kept.read(i) for i in indices.tolist()}
        missing = [i for i, states in found.items() if states is None]
        if missing:
            computed = dict(zip(missing, self.compute(split, np.array(missing)), strict=True))
            kept.write(computed)
            found |= computed
        return [states.to(self._backbone.device) for states in found.values() if states is not None]

    @torch.no_grad()
    def compute(self, split: EncodedSplit, indices: Indices) -> list[Tensor]:
        """Compute the states of some examples, each of shape (tokens, width)."""
        device, model = self._backbone.device, self._backbone.model.base_model
        found: list[Tensor] = []
        with self._backbone.running(self._below), autocast(self._precision, device):
            was_training = model.training
            model.eval()
            for part in np.split(indices, len(indices)) if device.type == "cpu" else [indices]:
                model(**split.batch(part, device)[0])
                found += [row[:length] for row, length in zip(self._last.states, split.lengths[part], strict=True)]
            model.train(was_training)
        return found

    def _open(self, split: EncodedSplit) -> _Kept | None:
        """Open the file with a split's states; None if there is no cache, or it does not pay."""
        if not self._cache:
            return None
        (sample,) = self.compute(split, np.array([0]))
        token_bytes = sample.shape[1] * sample.element_size()
        parameters = sum(parameter.numel() for parameter in self._below.parameters())
        if not pays(parameters, token_bytes, self._epochs, self._backbone.device.type):
            return None
        file = self._cache.open(self._key(split, sample.dtype), split.lengths, token_bytes)
        return _Kept(file, sample.dtype, sample.shape[1]) if file else None

    def _key(self, split: EncodedSplit, dtype: torch.dtype) -> str:
        """Return a digest of everything that the states depend on, down to the last bit."""
        backbone, device = self._backbone, self._backbone.device
        processor = torch.cuda.get_device_name(device) if device.type == "cuda" else dict(torch.cpu.get_capabilities())
        content = (
            *(FORMAT, backbone.fingerprint, split.digest, len(self._below)),
            *(self._precision, str(dtype), str(backbone.model.dtype)),
            *(torch.__version__, transformers.__version__, processor, torch.get_num_threads()),
        )
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def pays(parameters: int, token_bytes: int, epochs: int, device: str) -> bool:
    """Whether keeping states is estimated to be faster than computing them every time.

    Without a cache, a job and one more like it compute every state once per epoch. With a cache, they compute it once,
    write it once and read it as often. Both sides grow with the number of tokens, so it is enough to compare one.

    Args:
        parameters: Number of parameters in the prefix's layers; a forward pass takes two operations for each.
        token_bytes: Size of one token's state.
        epochs: Maximum number of epochs of the job.
        device: Type of the device that computes.
    """
    uses = 2 * epochs
    compute, move = 2 * parameters / FLOP_RATE[device], token_bytes / BYTE_RATE
    return compute + (1 + uses) * move < uses * compute


@dataclass(frozen=True)
class _Kept:
    """States in a file, as tensors."""

    file: StateFile
    dtype: torch.dtype
    width: int

    def read(self, example: int) -> Tensor | None:
        data = self.file.read(example)
        return None if data is None else torch.from_numpy(data).view(self.dtype).view(-1, self.width)

    def write(self, states: Mapping[int, Tensor]) -> None:
        self.file.write({i: s.cpu().contiguous().view(torch.uint8).numpy() for i, s in states.items()})


class _Last(nn.Module):
    """The last layer of the prefix, whose output is kept."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.states = torch.empty(0)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        self.states = self.layer(*args, **kwargs)
        return self.states


class _Start(nn.Module):
    """Takes the place of the prefix's layers, and returns states instead of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.states = torch.empty(0)

    def forward(self, *_args: Any, **_kwargs: Any) -> Tensor:
        return self.states
