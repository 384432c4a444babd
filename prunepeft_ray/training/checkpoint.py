"""Checkpoints: the state of a job during training, from which it resumes as if it had never been interrupted.

A checkpoint contains only what is trained, never the backbone. It needs no random states: everything random in a job is
seeded by the job's seed and the position (step and micro-batch for dropout, epoch for the order of the data).
"""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from prunepeft_ray.jobs import Epoch

State = dict[str, Any]
"""Nested dicts and lists of tensors, numbers and strings."""

_HEAD = b"prunepeft checkpoint 2\n"
_DIGEST_BYTES = hashlib.sha256().digest_size


class DamagedCheckpointError(ValueError):
    """The bytes are not an intact checkpoint."""


class UnusableStateError(ValueError):
    """The state is intact, but does not belong to this job."""


class Keeper(Protocol):
    """Saves a job's state while it trains, and records how much work is done."""

    def load(self) -> State | None:
        """Return the last saved state, or None to start from scratch."""

    def refuse(self, reason: str) -> None:
        """Record that the loaded state cannot be used, so that the job starts from scratch."""

    def begin(self, examples: int) -> None:
        """Record the number of examples after which training begins: 0, or that of the loaded state."""

    def before_step(self, examples: int, batch: int) -> None:
        """Record that a batch of that size is about to be trained on, after that many examples."""

    def wanted(self) -> bool:
        """Whether the state should be saved now; called after every step."""

    def save(self, state: State) -> None:
        """Save a state, replacing the previous one."""


@dataclass
class Progress:
    """How far a job has progressed, and what it has cost so far.

    Args:
        batch: Number of finished batches of the current epoch.
        loss: Sum of the losses of the current epoch's examples, a float64 scalar on the device.
        epoch_seconds: Wall-clock time spent on the current epoch.
        epochs: The finished epochs.
        best_epoch: 1-based number of the best eligible epoch; 0 if there is none yet.
        best_state: Weights of the best epoch; empty if the last epoch is used instead.
        step: Number of optimiser steps.
        examples: Number of examples trained on.
        evaluated: Number of examples evaluated.
        flops: Floating-point operations of the training.
        seconds: Wall-clock time.
        device_seconds: Wall-clock time times the number of devices.
        peak_memory_bytes: Peak memory use.
        restarts: How often the job was resumed from a checkpoint.
    """

    loss: Tensor
    batch: int = 0
    epoch_seconds: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_state: Mapping[str, Tensor] = field(default_factory=dict)
    step: int = 0
    examples: int = 0
    evaluated: int = 0
    flops: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0
    peak_memory_bytes: int = 0
    restarts: int = 0

    def to_state(self) -> State:
        """Return plain data and tensors; nothing is copied."""
        return vars(self) | {"epochs": [asdict(epoch) for epoch in self.epochs], "best_state": dict(self.best_state)}

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> Progress:
        """Rebuild the progress from :meth:`to_state`.

        Raises:
            KeyError: If a field is missing.
        """
        if missing := [one.name for one in fields(cls) if one.name not in state]:
            raise KeyError(missing[0])
        epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        return cls(**state | {"epochs": epochs, "loss": state["loss"].to(device)})


def pack(state: State) -> bytes:
    """Serialise a state, preceded by a digest so that damage is detected."""
    stream = io.BytesIO()
    torch.save(state, stream)
    body = stream.getbuffer()
    return b"".join((_HEAD, hashlib.sha256(body).digest(), body))


def unpack(data: bytes) -> State:
    """Deserialise a state from :func:`pack`; only tensors and plain data are ever loaded.

    Raises:
        DamagedCheckpointError: If bytes are missing or have changed, or the format is that of another version.
    """
    if not data.startswith(_HEAD):
        raise DamagedCheckpointError("it is not a checkpoint, or one of another version")
    start = len(_HEAD) + _DIGEST_BYTES
    body = memoryview(data)[start:]
    if hashlib.sha256(body).digest() != data[len(_HEAD) : start]:
        raise DamagedCheckpointError("its content does not match its digest")
    try:
        state: State = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError) as error:
        raise DamagedCheckpointError(" ".join(str(error).split())[:200]) from error
    return state
