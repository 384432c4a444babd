"""Tables and pictures from the results store."""

from prunepeft_ray.report.building import Report, build_report
from prunepeft_ray.report.charges import CostAccount
from prunepeft_ray.report.comparison import Comparison, best_so_far, compare_methods, compare_study
from prunepeft_ray.report.comparison_tables import comparison_markdown, comparison_tables, write_csv
from prunepeft_ray.report.drawing import architecture_table, summary_svg
from prunepeft_ray.report.method_rows import MethodRow, OverallRow
from prunepeft_ray.report.opening import DerivedFrame, Results, open_results, open_several
from prunepeft_ray.report.reference import results_markdown
from prunepeft_ray.report.summary import Phase, Removal, Summary, summarise
from prunepeft_ray.report.tables import summary_tables
from prunepeft_ray.report.writing import write_report

__all__ = [
    "Comparison",
    "CostAccount",
    "DerivedFrame",
    "MethodRow",
    "OverallRow",
    "Phase",
    "Removal",
    "Report",
    "Results",
    "Summary",
    "architecture_table",
    "best_so_far",
    "build_report",
    "compare_methods",
    "compare_study",
    "comparison_markdown",
    "comparison_tables",
    "open_results",
    "open_several",
    "results_markdown",
    "summarise",
    "summary_svg",
    "summary_tables",
    "write_csv",
    "write_report",
]
