"""Tables and pictures from the results store."""

from prunepeft_ray.report.drawing import architecture_table, summary_svg
from prunepeft_ray.report.summary import Phase, Removal, Summary, summarise
from prunepeft_ray.report.tables import summary_tables

__all__ = [
    "Phase",
    "Removal",
    "Summary",
    "architecture_table",
    "summarise",
    "summary_svg",
    "summary_tables",
]
