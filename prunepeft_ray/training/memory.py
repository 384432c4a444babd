"""Running out of memory."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the host has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch's allocator for the CPU raises a plain RuntimeError
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
