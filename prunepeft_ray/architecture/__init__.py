"""Slots, architectures, spaces, partitions and budgets. Pure Python: no torch, no Ray, no files."""

from prunepeft_ray.architecture.architecture import Architecture
from prunepeft_ray.architecture.budget import check_budget, check_holds_slot, parse_budget
from prunepeft_ray.architecture.partition import Partition, block_sizes, partition_of
from prunepeft_ray.architecture.slots import KIND_TITLES, KINDS, Module, Slot
from prunepeft_ray.architecture.space import ModuleCost, Space

__all__ = [
    "KINDS",
    "KIND_TITLES",
    "Architecture",
    "Module",
    "ModuleCost",
    "Partition",
    "Slot",
    "Space",
    "block_sizes",
    "check_budget",
    "check_holds_slot",
    "parse_budget",
    "partition_of",
]
