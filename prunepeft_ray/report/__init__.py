"""Tables and pictures from the results store."""

from prunepeft_ray.report.architecture_drawing import architecture_table, summary_svg
from prunepeft_ray.report.build import Report, build_report
from prunepeft_ray.report.terminal_comparison import comparison_markdown, comparison_tables, write_csv
from prunepeft_ray.report.terminal_summary import summary_tables
from prunepeft_ray.report.write import write_report

__all__ = [
    "Report",
    "architecture_table",
    "build_report",
    "comparison_markdown",
    "comparison_tables",
    "summary_svg",
    "summary_tables",
    "write_csv",
    "write_report",
]
