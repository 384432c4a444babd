"""Blocks of layers and the partitions they form with the slot kinds (paper, Section 3.2 and Fig. 2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from prunepeft_ray.architecture.slots import Slot
from prunepeft_ray.errors import InputError

REFERENCE_EDGES = (0.2, 0.5, 0.8)
"""Block edges of the released code: layer ``l`` is in the first block with ``l <= edge * (L - 1)``."""


@dataclass(frozen=True, order=True)
class Partition:
    """A block of layers and a slot kind: the unit that is assigned its own criterion."""

    block: int
    kind: str

    def __str__(self) -> str:
        return f"{self.block}.{self.kind}"


def block_sizes(layers: int, blocks: str | tuple[float, ...] = "spindle") -> tuple[int, ...]:
    """Return the number of layers in each block.

    Args:
        layers: Number of layers of the backbone, at least 4 unless ``blocks`` is ``"none"``.
        blocks: ``"spindle"`` for 1/6, 1/3, 1/3, 1/6 of the depth; ``"reference"`` for the released code's edges;
            ``"none"`` for a single block; or the fractions of the depth at which a new block begins, such as
            (0.25, 0.5, 0.75).

    Raises:
        InputError: If the backbone is too shallow, the edges do not increase between 0 and 1, or a block would be
            empty.
    """
    if blocks == "none":
        return (layers,)
    if layers < 4:
        raise InputError(
            f"a backbone of {layers} layers is too shallow for blocks: at least 4 are needed, or pruning.blocks=none"
        )
    if blocks == "spindle":
        return _spindle(layers)
    if blocks == "reference":
        starts = [next(layer for layer in range(layers) if layer > edge * (layers - 1)) for edge in REFERENCE_EDGES]
    elif isinstance(blocks, str):
        raise InputError(f"pruning.blocks: unknown '{blocks}'; known: spindle, reference, none, or a list of edges")
    else:
        if not all(0 < edge < 1 for edge in blocks) or any(a >= b for a, b in pairwise(blocks)):
            raise InputError(f"pruning.blocks: edges must increase between 0 and 1, got {list(blocks)}")
        starts = [round(edge * layers) for edge in blocks]
    sizes = tuple(b - a for a, b in pairwise([0, *starts, layers]))
    if min(sizes) < 1:
        raise InputError(f"pruning.blocks: with {layers} layers, a block would be empty (sizes {list(sizes)})")
    return sizes


def _spindle(layers: int) -> tuple[int, int, int, int]:
    end = max(1, (layers + 3) // 6)  # layers / 6, rounded half up
    middle = layers - 2 * end
    return end, middle // 2, middle - middle // 2, end


def partition_of(
    slots: Iterable[Slot], layers: int, blocks: str | tuple[float, ...] = "spindle"
) -> dict[Slot, Partition]:
    """Assign every slot to its partition.

    Raises:
        InputError: See :func:`block_sizes`.
    """
    block_of_layer = [block for block, size in enumerate(block_sizes(layers, blocks)) for _ in range(size)]
    return {slot: Partition(block_of_layer[slot.layer], slot.kind) for slot in slots}
