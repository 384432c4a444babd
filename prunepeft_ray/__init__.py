"""PrunePEFT-Ray: find the best PEFT architecture for a model, a task and a budget.

This is the public API. Its members are loaded on first use, so importing this package is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.lazy import lazy_attributes

if TYPE_CHECKING:
    from prunepeft_ray.analysis import Results, compare_study, open_results, summarise
    from prunepeft_ray.api import compare, resume, search, track
    from prunepeft_ray.architecture import Architecture, Module, ModuleCost, Slot, Space, check_holds_slot, partition_of
    from prunepeft_ray.cluster import Terms
    from prunepeft_ray.config import CandidateConfig, Config, SearchSpec, TaskConfig, load_spec
    from prunepeft_ray.criteria import CRITERIA, Criterion
    from prunepeft_ray.errors import InputError, PrunePEFTError, RunError
    from prunepeft_ray.jobs import Decision, Method, TrainJob, TrainResult, Work
    from prunepeft_ray.methods import METHODS, MethodInfo, NoOptions, Problem
    from prunepeft_ray.modules import MODULE_TYPES
    from prunepeft_ray.pareto import hypervolume, pareto_front
    from prunepeft_ray.pruning import (
        GeneratorMethod,
        PrunePEFT,
        Steps,
        Strategy,
        make_job,
        slots_per_round,
        slots_to_remove,
    )
    from prunepeft_ray.report import build_report, write_report
    from prunepeft_ray.results import ResultsStore, RunFolder
    from prunepeft_ray.seeds import derive_seed
    from prunepeft_ray.service import Client
    from prunepeft_ray.study import JsonFile
    from prunepeft_ray.tasks import TASKS, TaskData, TaskSource, load_task
    from prunepeft_ray.training import Predictor, load_adapter

__all__ = [
    "CRITERIA",
    "METHODS",
    "MODULE_TYPES",
    "TASKS",
    "Architecture",
    "CandidateConfig",
    "Client",
    "Config",
    "Criterion",
    "Decision",
    "GeneratorMethod",
    "InputError",
    "JsonFile",
    "Method",
    "MethodInfo",
    "Module",
    "ModuleCost",
    "NoOptions",
    "Predictor",
    "Problem",
    "PrunePEFT",
    "PrunePEFTError",
    "Results",
    "ResultsStore",
    "RunError",
    "RunFolder",
    "SearchSpec",
    "Slot",
    "Space",
    "Steps",
    "Strategy",
    "TaskConfig",
    "TaskData",
    "TaskSource",
    "Terms",
    "TrainJob",
    "TrainResult",
    "Work",
    "build_report",
    "check_holds_slot",
    "compare",
    "compare_study",
    "derive_seed",
    "hypervolume",
    "load_adapter",
    "load_spec",
    "load_task",
    "make_job",
    "open_results",
    "pareto_front",
    "partition_of",
    "resume",
    "search",
    "slots_per_round",
    "slots_to_remove",
    "summarise",
    "track",
    "write_report",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "prunepeft_ray.api": ("compare", "resume", "search", "track"),
        "prunepeft_ray.architecture": (
            "Architecture",
            "Module",
            "ModuleCost",
            "Slot",
            "Space",
            "check_holds_slot",
            "partition_of",
        ),
        "prunepeft_ray.config": ("CandidateConfig", "Config", "SearchSpec", "TaskConfig", "load_spec"),
        "prunepeft_ray.criteria": ("CRITERIA", "Criterion"),
        "prunepeft_ray.errors": ("InputError", "PrunePEFTError", "RunError"),
        "prunepeft_ray.cluster": ("Terms",),
        "prunepeft_ray.jobs": ("Decision", "Method", "TrainJob", "TrainResult", "Work"),
        "prunepeft_ray.methods": ("METHODS", "MethodInfo", "NoOptions", "Problem"),
        "prunepeft_ray.modules": ("MODULE_TYPES",),
        "prunepeft_ray.pareto": ("hypervolume", "pareto_front"),
        "prunepeft_ray.pruning": (
            "GeneratorMethod",
            "PrunePEFT",
            "Steps",
            "Strategy",
            "make_job",
            "slots_per_round",
            "slots_to_remove",
        ),
        "prunepeft_ray.analysis": ("Results", "compare_study", "open_results", "summarise"),
        "prunepeft_ray.report": ("build_report", "write_report"),
        "prunepeft_ray.results": ("ResultsStore", "RunFolder"),
        "prunepeft_ray.seeds": ("derive_seed",),
        "prunepeft_ray.service": ("Client",),
        "prunepeft_ray.study": ("JsonFile",),
        "prunepeft_ray.tasks": ("TASKS", "TaskData", "TaskSource", "load_task"),
        "prunepeft_ray.training": ("Predictor", "load_adapter"),
    },
)
