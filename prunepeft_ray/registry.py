"""Registries of interchangeable items: criteria, module types, backbone families, tasks, methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from prunepeft_ray.errors import unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Items by name, in the order of registration.

    Args:
        noun: Name of the kind of item in error messages, such as ``"criterion"``.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._items: dict[str, T] = {}

    def register(self, name: str, item: T) -> T:
        """Add an item and return it.

        Raises:
            ValueError: If the name is taken.
        """
        if name in self._items:
            raise ValueError(f"{self.noun} '{name}' is already registered")
        self._items[name] = item
        return item

    def __getitem__(self, name: str) -> T:
        """Return the item of that name.

        Raises:
            InputError: If there is no such item; the message names the closest match and all known names.
        """
        if name not in self._items:
            raise unknown(self.noun, name, self._items)
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
