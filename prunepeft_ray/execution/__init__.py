"""Execution of searches and studies on Ray: training jobs, worker groups, trials, checkpoints and events.

Everything is imported on first use, since not every process of a search needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.lazy import lazy_attributes

if TYPE_CHECKING:
    from prunepeft_ray.execution.drive import drive
    from prunepeft_ray.execution.executor import GroupExecutor
    from prunepeft_ray.execution.plan import Plan, plan_search
    from prunepeft_ray.execution.search.run import run_search
    from prunepeft_ray.execution.search.start import resume_search, start_search
    from prunepeft_ray.execution.study.progress import MethodProgress, Watch
    from prunepeft_ray.execution.study.start import resume_study, start_study
    from prunepeft_ray.execution.workbench import Workbench

__all__ = [
    "GroupExecutor",
    "MethodProgress",
    "Plan",
    "Watch",
    "Workbench",
    "drive",
    "plan_search",
    "resume_search",
    "resume_study",
    "run_search",
    "start_search",
    "start_study",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "prunepeft_ray.execution.study.start": ("resume_study", "start_study"),
        "prunepeft_ray.execution.executor": ("GroupExecutor",),
        "prunepeft_ray.execution.workbench": ("Workbench",),
        "prunepeft_ray.execution.drive": ("drive",),
        "prunepeft_ray.execution.search.start": ("resume_search", "start_search"),
        "prunepeft_ray.execution.plan": ("Plan", "plan_search"),
        "prunepeft_ray.execution.search.run": ("run_search",),
        "prunepeft_ray.execution.study.progress": ("MethodProgress", "Watch"),
    },
)
