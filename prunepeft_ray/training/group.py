"""Groups of processes that train a job together."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import torch

T = TypeVar("T")


class Group(Protocol):
    """Processes that run the same code for the same job, each on its part of every batch."""

    rank: int
    world: int

    def sum_(self, tensor: torch.Tensor) -> None:
        """Sum a tensor over all processes, in place."""

    def gather(self, item: T) -> list[T]:
        """Return every process's item, by rank."""


class SoloGroup:
    """A group of a single process."""

    rank = 0
    world = 1

    def sum_(self, tensor: torch.Tensor) -> None:
        """Leave the tensor as it is."""

    def gather(self, item: T) -> list[T]:
        """Return the one item."""
        return [item]


class DistributedGroup:
    """All processes of an initialised ``torch.distributed`` process group: gloo on CPU, NCCL on GPU."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.world = torch.distributed.get_world_size()

    def sum_(self, tensor: torch.Tensor) -> None:
        """Sum a tensor over all processes, in place."""
        torch.distributed.all_reduce(tensor)

    def gather(self, item: T) -> list[T]:
        """Return every process's item, by rank."""
        items: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(items, item)
        return items
