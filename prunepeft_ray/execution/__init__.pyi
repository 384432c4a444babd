from .drive import drive
from .executor import GroupExecutor
from .plan import Plan, plan_search
from .search.run import run_search
from .search.start import resume_search, start_search
from .study.progress import MethodProgress, Watch
from .study.start import resume_study, start_study
from .workbench import Workbench

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
