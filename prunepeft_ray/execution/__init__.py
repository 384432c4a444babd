"""Executing searches: jobs in a group of processes, the Ray Train worker group, and its news. Ray is only here.

Everything is loaded when first used: not every process of a search needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.lazy import lazy_attributes

if TYPE_CHECKING:
    from prunepeft_ray.execution.compare import resume_study, start_study
    from prunepeft_ray.execution.events import Emit, Event
    from prunepeft_ray.execution.executor import GroupExecutor, Workbench, drive
    from prunepeft_ray.execution.launch import resume_search, start_search
    from prunepeft_ray.execution.search import Plan, plan_search, run_search
    from prunepeft_ray.execution.study_run import MethodProgress, Watch
    from prunepeft_ray.execution.terms import Terms

__all__ = [
    "Emit",
    "Event",
    "GroupExecutor",
    "MethodProgress",
    "Plan",
    "Terms",
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
        "prunepeft_ray.execution.compare": ("resume_study", "start_study"),
        "prunepeft_ray.execution.events": ("Emit", "Event"),
        "prunepeft_ray.execution.executor": ("GroupExecutor", "Workbench", "drive"),
        "prunepeft_ray.execution.launch": ("resume_search", "start_search"),
        "prunepeft_ray.execution.search": ("Plan", "plan_search", "run_search"),
        "prunepeft_ray.execution.study_run": ("MethodProgress", "Watch"),
        "prunepeft_ray.execution.terms": ("Terms",),
    },
)
