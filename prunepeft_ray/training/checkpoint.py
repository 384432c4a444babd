"""The state of a job in the middle of its training: all that is needed to go on as if nothing had happened.

Only what trains is in it, never the backbone. There are no random states: everything random in a job is seeded by the
job's seed and its place (step and micro-batch for dropout, epoch for the order of the data), so the position is enough.
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
"""Nested dicts and lists of tensors, numbers and texts."""

_HEAD = b"prunepeft checkpoint 2\n"
_DIGEST_BYTES = hashlib.sha256().digest_size


class DamagedCheckpointError(ValueError):
    """The bytes are no whole checkpoint."""


class UnusableStateError(ValueError):
    """A state that is whole, and yet not one of this job."""


class Keeper(Protocol):
    """Keeps the state of one job while it trains, and notes how much it trains."""

    def load(self) -> State | None:
        """Return the state that was kept last, or None to begin at the beginning."""

    def refuse(self, reason: str) -> None:
        """Take note that the state which was loaded cannot be used: the job starts from its beginning."""

    def begin(self, examples: int) -> None:
        """Take note that training begins after so many examples: 0, or those of the state which was loaded."""

    def before_step(self, examples: int, batch: int) -> None:
        """Take note that after so many examples a batch of that size is about to be trained on."""

    def wanted(self) -> bool:
        """Whether the state should be kept now; asked after every step."""

    def save(self, state: State) -> None:
        """Keep a state in place of the last one."""


@dataclass
class Progress:
    """How far a job has come, and what it has cost so far.

    Args:
        batch: Batches done of the epoch under way.
        loss: Sum of the losses of its examples, a float64 scalar on the device.
        epoch_seconds: Wall-clock time spent on it.
        epochs: The epochs done.
        best_epoch: 1-based number of the best of them that may be chosen; 0 before the first such.
        best_state: The best epoch's weights; empty where the last epoch counts.
        step: Optimiser steps.
        examples: Examples trained on.
        evaluated: Examples evaluated.
        seconds: Wall-clock time.
        device_seconds: Wall-clock time times devices.
        peak_memory_bytes: Most memory used.
        restarts: How often the job was taken up again from a checkpoint.
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
    seconds: float = 0.0
    device_seconds: float = 0.0
    peak_memory_bytes: int = 0
    restarts: int = 0

    def to_state(self) -> State:
        """Return plain data and tensors; nothing is copied."""
        return vars(self) | {"epochs": [asdict(epoch) for epoch in self.epochs], "best_state": dict(self.best_state)}

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> Progress:
        """Rebuild what :meth:`to_state` gave.

        Raises:
            KeyError: If parts are missing.
        """
        if missing := [one.name for one in fields(cls) if one.name not in state]:
            raise KeyError(missing[0])
        epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        return cls(**state | {"epochs": epochs, "loss": state["loss"].to(device)})


def pack(state: State) -> bytes:
    """Write a state as bytes that begin with a digest of the rest, so that damage is noticed."""
    stream = io.BytesIO()
    torch.save(state, stream)
    body = stream.getbuffer()
    return b"".join((_HEAD, hashlib.sha256(body).digest(), body))


def unpack(data: bytes) -> State:
    """Read what :func:`pack` wrote; nothing but tensors and plain data is ever loaded.

    Raises:
        DamagedCheckpointError: If bytes are missing or have changed, or another version wrote them.
    """
    if not data.startswith(_HEAD):
        raise DamagedCheckpointError("it is none, or of another version")
    start = len(_HEAD) + _DIGEST_BYTES
    body = memoryview(data)[start:]
    if hashlib.sha256(body).digest() != data[len(_HEAD) : start]:
        raise DamagedCheckpointError("its content does not match its digest")
    try:
        state: State = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError) as error:
        raise DamagedCheckpointError(" ".join(str(error).split())[:200]) from error
    return state
