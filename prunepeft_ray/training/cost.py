"""Cost of a job: floating-point operations and memory."""

from __future__ import annotations

import resource
import sys
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


def _attention(query: Any, key: Any, value: Any, *_args: Any, **_kwargs: Any) -> int:
    count: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return count


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_args: Any, **_kwargs: Any) -> int:
    count: int = sdpa_backward_flop_count(gradient, query, key, value)  # type: ignore[no-untyped-call]
    return count


# torch's counter only knows the fused attention of GPUs
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


class FlopMeter:
    """Counts the operations of one micro-batch with torch's counter, and scales them by tokens.

    Counting in every step would slow training down, and the operations per padded token hardly vary.
    """

    def __init__(self) -> None:
        self._per_token: float | None = None
        self.tokens = 0

    @property
    def wanted(self) -> bool:
        """Whether no micro-batch has been counted yet."""
        return self._per_token is None

    @property
    def flops(self) -> float:
        """Total number of floating-point operations in training so far."""
        return (self._per_token or 0.0) * self.tokens

    def state(self) -> dict[str, Any]:
        """Return the meter's state, as plain data."""
        return {"per_token": self._per_token, "tokens": self.tokens}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        self._per_token, self.tokens = state["per_token"], state["tokens"]

    def counter(self) -> FlopCounterMode:
        """Return the context in which to run the micro-batch that is counted."""
        return FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)

    def set(self, counter: FlopCounterMode, tokens: int) -> None:
        """Record the operations that were counted for a micro-batch of that many padded tokens."""
        self._per_token = counter.get_total_flops() / tokens


def peak_memory(device: torch.device) -> int:
    """Return the peak memory use so far, in bytes: of the GPU, or resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
