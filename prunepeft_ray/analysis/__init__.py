"""Frames and statistics computed from the results store; no HTML and no Ray."""

from prunepeft_ray.analysis.charges import CostAccount
from prunepeft_ray.analysis.comparison import Comparison, best_so_far, compare_methods, compare_study
from prunepeft_ray.analysis.frame import DerivedFrame
from prunepeft_ray.analysis.method_rows import MethodRow, OverallRow
from prunepeft_ray.analysis.open import open_results, open_several
from prunepeft_ray.analysis.reference import results_markdown
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.analysis.summary import Phase, Removal, Summary, summarise

__all__ = [
    "Comparison",
    "CostAccount",
    "DerivedFrame",
    "MethodRow",
    "OverallRow",
    "Phase",
    "Removal",
    "Results",
    "Summary",
    "best_so_far",
    "compare_methods",
    "compare_study",
    "open_results",
    "open_several",
    "results_markdown",
    "summarise",
]
