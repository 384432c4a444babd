"""PrunePEFT-Ray: find the best PEFT architecture for a model, a task and a budget.

The public API. Everything is loaded when first used, so importing this package is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.lazy import lazy_attributes

if TYPE_CHECKING:
    from prunepeft_ray.api import resume, search
    from prunepeft_ray.architecture import Architecture, Module, Slot, Space
    from prunepeft_ray.config import SearchSpec, load_spec
    from prunepeft_ray.criteria import CRITERIA, Criterion
    from prunepeft_ray.errors import InputError, PrunePEFTError, RunError
    from prunepeft_ray.jobs import Method, TrainJob, TrainResult, Work
    from prunepeft_ray.pruning import PrunePEFT, Strategy
    from prunepeft_ray.report import summarise
    from prunepeft_ray.results import ResultsStore, RunFolder
    from prunepeft_ray.training import Predictor, load_adapter

__all__ = [
    "CRITERIA",
    "Architecture",
    "Criterion",
    "InputError",
    "Method",
    "Module",
    "Predictor",
    "PrunePEFT",
    "PrunePEFTError",
    "ResultsStore",
    "RunError",
    "RunFolder",
    "SearchSpec",
    "Slot",
    "Space",
    "Strategy",
    "TrainJob",
    "TrainResult",
    "Work",
    "load_adapter",
    "load_spec",
    "resume",
    "search",
    "summarise",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "prunepeft_ray.api": ("resume", "search"),
        "prunepeft_ray.architecture": ("Architecture", "Module", "Slot", "Space"),
        "prunepeft_ray.config": ("SearchSpec", "load_spec"),
        "prunepeft_ray.criteria": ("CRITERIA", "Criterion"),
        "prunepeft_ray.errors": ("InputError", "PrunePEFTError", "RunError"),
        "prunepeft_ray.jobs": ("Method", "TrainJob", "TrainResult", "Work"),
        "prunepeft_ray.pruning": ("PrunePEFT", "Strategy"),
        "prunepeft_ray.report": ("summarise",),
        "prunepeft_ray.results": ("ResultsStore", "RunFolder"),
        "prunepeft_ray.training": ("Predictor", "load_adapter"),
    },
)
