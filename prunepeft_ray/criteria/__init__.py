"""Pruning criteria: statistics of PEFT modules that rank slots for pruning.

A new criterion takes one file that registers a :class:`Criterion` and one line here.
"""

from prunepeft_ray.criteria import activation, gate, gradient, sensitivity, threshold, weight, zeros
from prunepeft_ray.criteria.base import CRITERIA, Criterion, register

__all__ = [
    "CRITERIA",
    "Criterion",
    "activation",
    "gate",
    "gradient",
    "register",
    "sensitivity",
    "threshold",
    "weight",
    "zeros",
]
