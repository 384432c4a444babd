"""How methods differ from PrunePEFT: on every model and task, and over all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from prunepeft_ray.analysis.method_rows import BASELINE, MethodRow, OverallRow
from prunepeft_ray.analysis.statistics import Difference, correct, difference, difference_over


def with_differences(rows: Sequence[MethodRow]) -> list[MethodRow]:
    """Give every row its difference to ``prunepeft`` on the same model and task."""
    baseline = {(row.model, row.task): row.measured for row in rows if row.method == BASELINE}
    compared = [
        row
        if row.method == BASELINE
        else replace(row, difference=difference(row.measured, baseline.get((row.model, row.task), {})))
        for row in rows
    ]
    families: dict[tuple[str, str], dict[str, Difference]] = {}
    for row in compared:
        # references stand outside the contest, and a choice repeats the test of the criterion that it took
        if row.role == "method":
            families.setdefault((row.model, row.task), {})[row.method] = row.difference
    corrected = {place: correct(family) for place, family in families.items()}
    return [
        replace(row, difference=corrected.get((row.model, row.task), {}).get(row.method, row.difference))
        for row in compared
    ]


def overall_rows(rows: Sequence[MethodRow]) -> tuple[OverallRow, ...]:
    """Compare methods with ``prunepeft`` over all tasks.

    A task counts once, with the mean of its differences over models and seeds: those of one task have the task in
    common, and say little about another.

    Args:
        rows: Rows with their differences; none comes back where ``prunepeft`` is not among them.
    """
    if not any(row.method == BASELINE for row in rows):
        return ()
    methods = dict.fromkeys(row.method for row in rows if row.method != BASELINE)
    found = [_overall(method, [row for row in rows if row.method == method]) for method in methods]
    corrected = correct({row.method: row.difference for row in found if row.role == "method"})
    return tuple(replace(row, difference=corrected.get(row.method, row.difference)) for row in found)


def _overall(method: str, rows: Sequence[MethodRow]) -> OverallRow:
    of_task: dict[str, list[float]] = {}
    for row in rows:
        if row.difference.mean is not None:
            of_task.setdefault(row.task, []).append(row.difference.mean)
    return OverallRow(
        method,
        rows[0].role,
        places=sum(map(len, of_task.values())),
        pairs=sum(row.difference.n for row in rows),
        difference=difference_over([fmean(values) for values in of_task.values()]),
    )
