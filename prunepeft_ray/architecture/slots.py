"""Slots and the modules that fill them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from prunepeft_ray.errors import InputError, quoted

KIND_TITLES = {"FT": "full tuning", "PA": "query, value", "PF": "parallel", "PT": "prefix", "SA": "serial"}
"""Titles of the slot kinds.

FT: the whole layer; the first and the last layer also cover what comes before and after the layers.
PA: parallel, on the query and value projections. PF: an adapter parallel to the FFN. PT: a prefix of the attention's
keys and values. SA: serial, a bottleneck adapter.
"""
KINDS = ("PA", "PF", "PT", "SA")
"""Slot kinds that a space may contain: those of PEFT modules. FT is for comparison only."""


@dataclass(frozen=True, order=True)
class Slot:
    """A place for one PEFT module.

    Args:
        layer: 0-based layer of the backbone.
        kind: A key of :data:`KIND_TITLES`.

    Raises:
        ValueError: If the layer is negative or the kind is unknown.
    """

    layer: int
    kind: str

    def __post_init__(self) -> None:
        if self.layer < 0 or self.kind not in KIND_TITLES:
            raise ValueError(f"there is no slot of kind {quoted(self.kind)} at layer {self.layer}")

    def __str__(self) -> str:
        return f"{self.kind}.{self.layer}"

    @classmethod
    def parse(cls, text: str) -> Slot:
        """Read a slot back from its string form, such as ``"PA.3"``.

        Raises:
            InputError: If the text is not a slot.
        """
        match = re.fullmatch(r"(\w+)\.(\d+)", text)
        if not match or match[1] not in KIND_TITLES:
            raise InputError(f"{quoted(text)} is not a slot: expected a kind and a layer, such as PA.3 or SA.0")
        return cls(int(match[2]), match[1])


@dataclass(frozen=True, order=True)
class Module:
    """The module that fills a slot.

    Args:
        type: A registered module type, such as ``"lora"`` or ``"pfeiffer"``.
        size: LoRA rank, adapter bottleneck or number of prefix vectors; 1 for types without a size.

    Raises:
        ValueError: If the size is below 1.
    """

    type: str
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"the size of a {self.type} module must be at least 1, got {self.size}")
