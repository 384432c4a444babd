"""One copy of a frozen backbone, and of everything that belongs to it, for all workers of a node.

Ray's object store is memory mapped by all processes of a node. An item is stored once: its tensors and arrays in one
block, next to a small pickle. A worker that opens it rebuilds the objects around that block, without copying it.

Mapped memory could be written to: torch does not know read-only memory, and an in-place operation would silently change
the backbone of every process. So the block's pages are made read-only where they are mapped, and a process that writes
to them dies immediately of a segmentation fault.
"""

from __future__ import annotations

import ctypes
import io
import mmap
import os
import pickle
import warnings
from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

LARGEST_SHARE = 0.8
"""Fraction of a node's object store that one item may take; other objects live there too."""
ALIGNMENT = 64
"""Ray's alignment of a block, and the largest that any kernel requires, in bytes."""

Block = npt.NDArray[np.uint8]

_opened: list[Block] = []
"""Blocks mapped by this process; if one were released, Ray would reuse its pages, which are read-only here."""


@dataclass(frozen=True)
class Shared:
    """Handle of an item in the object store, small enough to send to every worker.

    Args:
        reference: Ray's object reference, inside a list so that Ray passes the reference and not the data.
        size: Size on each node, in bytes.
    """

    reference: list[Any]
    size: int


def share(item: Any) -> Shared | None:
    """Put an item into the object store for all workers to open.

    Tensors and arrays, however deeply nested, keep their values, types and shapes, and become contiguous; parameters
    stay parameters, and tied ones stay tied. Sparse and quantised tensors, tensors on other devices and tensor
    subclasses are part of the pickle, and every process gets its own copy of them.

    Args:
        item: Any picklable object, such as a workbench; it is not modified.

    Returns:
        The handle, or None if the item does not fit into the object store and each worker has to load its own.
    """
    import ray

    buffers: list[Block] = []
    data = _dump(item, buffers)
    places, end = _places(buffers)
    size = len(data) + end
    if not fits(size):
        return None
    block = np.zeros(end, np.uint8)
    for (start, stop), buffer in zip(places, buffers, strict=True):
        block[start:stop] = buffer
    return Shared([ray.put((data, places, block))], size)


def fits(size: int) -> bool:
    """Whether an item of ``size`` bytes fits into the object store of every node of the cluster."""
    import ray

    room = [node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"]]
    return size <= LARGEST_SHARE * min(room, default=0)


def open_shared(shared: Shared) -> Any:
    """Rebuild a shared item in this process, around the memory that all processes of the node share.

    Writing to its tensors kills the process with a segmentation fault; arrays raise a ValueError instead. The memory
    stays mapped until the process ends, since Ray would otherwise reuse it for other objects.

    Only the item is protected: Ray keeps writing other objects next to it, from this process too.

    Args:
        shared: The handle returned by :func:`share`.

    Raises:
        OSError: If the memory cannot be protected.
    """
    import ray

    data, places, block = ray.get(shared.reference[0])
    _protect(block)
    _opened.append(block)
    view = memoryview(block)
    with warnings.catch_warnings():
        # torch warns of undefined behaviour; with protected pages, writing is a segmentation fault
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return pickle.loads(data, buffers=[view[start:end] for start, end in places])


def _places(buffers: Sequence[Block]) -> tuple[list[tuple[int, int]], int]:
    """Compute start and end of each buffer in the block, and the end of the block.

    Buffers keep their alignment, as in a memory-mapped file: the last bits of the kernels' results depend on it. One
    page is left free on both sides, so that no page contains bytes of both the item and other objects.
    """
    places, end = [], mmap.PAGESIZE
    for buffer in buffers:
        start = -(-end // ALIGNMENT) * ALIGNMENT + buffer.ctypes.data % ALIGNMENT
        end = start + len(buffer)
        places.append((start, end))
    return places, end + mmap.PAGESIZE


def _dump(item: Any, buffers: list[Block]) -> bytes:
    """Pickle an item; the memory of its tensors and arrays goes to ``buffers`` instead."""
    from ray import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table: ClassVar[Any] = ChainMap(
            {Tensor: _reduce, nn.Parameter: _reduce}, cloudpickle.Pickler.dispatch_table
        )

    stream = io.BytesIO()
    # the return value of list.append, None, means that the buffer is not part of the pickle
    Pickler(stream, protocol=5, buffer_callback=lambda buffer: buffers.append(np.asarray(buffer.raw()))).dump(item)
    return stream.getvalue()


def _reduce(tensor: Tensor) -> Any:
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_quantized:
        return tensor.__reduce_ex__(5)  # type: ignore[no-untyped-call]
    # a view of one element may have a stride of 0 and still be contiguous
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().as_strided((tensor.numel(),), (1,))
    # as bytes, since numpy lacks some of torch's types
    data = flat.view(torch.uint8).numpy() if len(flat) else None
    return _rebuild, (data, tensor.dtype, tuple(tensor.shape), tensor.requires_grad, isinstance(tensor, nn.Parameter))


def _rebuild(
    data: Block | None, dtype: torch.dtype, shape: Sequence[int], requires_grad: bool, is_parameter: bool
) -> Tensor:
    tensor = torch.empty(shape, dtype=dtype) if data is None else torch.from_numpy(data).view(dtype).view(shape)
    return nn.Parameter(tensor, requires_grad) if is_parameter else tensor.requires_grad_(requires_grad)


def _protect(block: Block) -> None:
    """Make the whole pages of a block read-only in this process."""
    start = -(-block.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (block.ctypes.data + block.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.PROT_READ):
        code = ctypes.get_errno()
        raise OSError(code, f"the shared backbone's memory cannot be protected: {os.strerror(code)}")
