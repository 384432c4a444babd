"""The columns of comparison tables."""

from __future__ import annotations

from prunepeft_ray.analysis.method_rows import BASELINE, MethodRow, OverallRow
from prunepeft_ray.report.cost_columns import Columns
from prunepeft_ray.report.labels import (
    _dev,
    _difference_interval,
    _interval,
    _interval_text,
    _mean_difference,
    _p,
    _p_holm,
    _p_text,
    _retraining_deviation,
    _stacked,
    difference_text,
    notes_text,
    p_text,
    parameters_text,
    test_text,
)


def _method(row: MethodRow) -> str:
    return row.method


BRIEF_RESULTS: Columns = {
    "method": _method,
    "test (95 % interval)": lambda row: _stacked(test_text(row), _interval(row)),
    "dev": _dev,
    "parameters": parameters_text,
    f"to {BASELINE}": lambda row: _stacked(
        difference_text(row), _difference_interval(row), p_text(row.difference), last="p "
    ),
    "notes": notes_text,
}


RESULTS: Columns = {
    "method": _method,
    "test": test_text,
    "95 % interval": _interval,
    "dev": _dev,
    "retraining ±": _retraining_deviation,
    "parameters": parameters_text,
    f"to {BASELINE}": difference_text,
    "its 95 % interval": _difference_interval,
    "p": _p,
    "p (Holm)": _p_holm,
    "notes": notes_text,
}


OVERALL = ("method", "role", "models and tasks", "tasks", "pairs", f"to {BASELINE}", "95 % interval", "p", "p (Holm)")


def overall_cells(row: OverallRow) -> tuple[str, ...]:
    """Format the difference of a method to ``prunepeft`` over all models and tasks, in the columns of ``OVERALL``."""
    found = row.difference
    interval = _interval_text(found, "+.4f")
    tests = (_mean_difference(found), interval, _p_text(found.p), _p_text(found.p_holm))
    return row.method, row.role, str(row.places), str(found.n), str(row.pairs), *tests
