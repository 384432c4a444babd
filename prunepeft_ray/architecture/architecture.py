"""Architectures: which slots are filled, and with what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prunepeft_ray.architecture.slots import Module, Slot
from prunepeft_ray.errors import InputError, quoted
from prunepeft_ray.parsing import parse_json


@dataclass(frozen=True)
class Architecture:
    """An immutable set of filled slots, kept in slot order.

    Args:
        filled: Pairs of slot and module. Use :meth:`of` to build one from a mapping in any order.
    """

    filled: tuple[tuple[Slot, Module], ...] = ()

    @classmethod
    def of(cls, modules: Mapping[Slot, Module]) -> Architecture:
        """Build an architecture from a mapping of slots to modules."""
        return cls(tuple(sorted(modules.items())))

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The filled slots, by layer, then kind."""
        return tuple(slot for slot, _ in self.filled)

    @property
    def id(self) -> str:
        """A stable id of 12 hexadecimal digits; equal architectures have the same id on any machine."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def __iter__(self) -> Iterator[tuple[Slot, Module]]:
        return iter(self.filled)

    def __len__(self) -> int:
        return len(self.filled)

    def __contains__(self, slot: object) -> bool:
        return slot in self.slots

    def __getitem__(self, slot: Slot) -> Module:
        for candidate, module in self.filled:
            if candidate == slot:
                return module
        raise KeyError(slot)

    def without(self, removed: Iterable[Slot]) -> Architecture:
        """Return this architecture with some slots emptied.

        Raises:
            KeyError: If one of the slots is not filled.
        """
        gone = set(removed)
        if missing := gone.difference(self.slots):
            raise KeyError(", ".join(str(slot) for slot in sorted(missing)))
        return Architecture(tuple(pair for pair in self.filled if pair[0] not in gone))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "slots": [
                {"layer": slot.layer, "kind": slot.kind, "module": module.type, "size": module.size}
                for slot, module in self.filled
            ]
        }

    def to_json(self) -> str:
        """Return compact JSON, identical for equal architectures."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: Any) -> Architecture:
        """Read an architecture back from :meth:`to_dict`; keys other than ``slots`` are ignored.

        Raises:
            InputError: If the data is not an architecture, or fills a slot twice.
        """
        try:
            pairs = [
                (Slot(_integer(s["layer"]), str(s["kind"])), Module(str(s["module"]), _integer(s["size"])))
                for s in data["slots"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"not an architecture, such as the architecture.json of a search: {quoted(error)}"
            ) from error
        if len({slot for slot, _ in pairs}) != len(pairs):
            raise InputError("not an architecture: a slot is filled twice")
        return cls.of(dict(pairs))

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read an architecture back from :meth:`to_json`.

        Raises:
            InputError: If the text is not JSON or not an architecture.
        """
        try:
            return cls.from_dict(parse_json(text))
        except ValueError as error:
            raise InputError(f"not an architecture: {error}") from error


def _integer(value: Any) -> int:
    """Check that a layer or a size is an integer; 2.5, "2" and true are not."""
    if type(value) is not int:
        raise TypeError(f"{quoted(value)} is not an integer")
    return value
