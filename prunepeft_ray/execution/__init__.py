"""Executing searches: jobs in a group of processes, the Ray Train worker group, and its news. Ray is only here."""

from prunepeft_ray.execution.events import Emit, Event
from prunepeft_ray.execution.executor import GroupExecutor, Workbench, drive
from prunepeft_ray.execution.launch import resume_search, start_search
from prunepeft_ray.execution.search import Plan, plan_search, run_search

__all__ = [
    "Emit",
    "Event",
    "GroupExecutor",
    "Plan",
    "Workbench",
    "drive",
    "plan_search",
    "resume_search",
    "run_search",
    "start_search",
]
