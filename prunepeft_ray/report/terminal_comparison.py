"""A comparison as tables for the terminal, as a Markdown document and as CSV files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prunepeft_ray.analysis.comparison import Comparison
from prunepeft_ray.analysis.method_rows import BASELINE, MethodRow, OverallRow
from prunepeft_ray.analysis.statistics import Difference
from prunepeft_ray.report.comparison_columns import BRIEF_RESULTS, OVERALL, RESULTS, overall_cells
from prunepeft_ray.report.cost_columns import (
    BRIEF_COSTS,
    RETRAINING,
    RETRAINING_COSTS,
    SEARCH,
    SEARCH_COSTS,
    Columns,
    with_redone,
)
from prunepeft_ray.report.csv_text import to_csv
from prunepeft_ray.storage import write_whole
from prunepeft_ray.text import duration_text

if TYPE_CHECKING:
    import pandas as pd

ENOUGH = 5
"""With fewer seeds or tasks, the tables warn that intervals are wide."""


@dataclass(frozen=True)
class _Grid:
    """The text of a table, independent of its output format."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Return a comparison as tables: results and costs for every model and task.

    Args:
        comparison: The comparison; for an unfinished study, the results so far.
    """
    grids = []
    for (model, task), rows in comparison.places().items():
        grids.append(_grid(f"{task} on {model}: {_of_metric(rows)}", BRIEF_RESULTS, rows, _results_caption(rows)))
        costs = with_redone(BRIEF_COSTS, rows, SEARCH)
        grids.append(_grid(f"{task} on {model}: cost", costs, rows, "per search, and per single retraining"))
    if comparison.overall:
        grids.append(_overall_grid(comparison.overall))
    return [_rich(grid) for grid in grids]


def comparison_markdown(
    comparison: Comparison, command: str, versions: Mapping[str, str], hardware: Mapping[str, str]
) -> str:
    """Format a comparison as a Markdown document that states how to reproduce and read it.

    Args:
        comparison: The comparison.
        command: Command that reproduces it.
        versions: Versions of Python and packages.
        hardware: Names and values that describe the machine.
    """
    parts = ["# Comparison of search methods", f"```\n{command}\n```"]
    parts.append(f"Versions: {_listed(versions)}.\n\nHardware: {_listed(hardware)}.")
    for (model, task), rows in comparison.places().items():
        parts.append(f"## {plain(task)} on {plain(model)}")
        parts.append(_markdown(_grid(f"Results: {_of_metric(rows)}", RESULTS, rows, _results_caption(rows))))
        parts.append(_markdown(_grid("Cost of a search", with_redone(SEARCH_COSTS, rows, SEARCH), rows)))
        parts.append(_markdown(_grid("Cost of retraining", with_redone(RETRAINING_COSTS, rows, RETRAINING), rows)))
    if comparison.overall:
        parts.append(f"## Over all models and tasks\n\n{_markdown(_overall_grid(comparison.overall))}")
    parts.append(_computed_text(comparison))
    parts.append("## How to read this\n\n" + "\n".join(f"- {line}" for line in HOW_TO_READ))
    return "\n\n".join(parts) + "\n"


def write_csv(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Write the numbers of a comparison to ``methods.csv``, and to ``overall.csv`` if there are overall differences.

    Args:
        comparison: The comparison.
        folder: Folder of the files, on a disk or in a bucket; created if missing.

    Returns:
        The files written.

    Raises:
        RunError: If a file cannot be written.
    """
    frames: dict[str, pd.DataFrame] = {"methods.csv": comparison.frame(), "overall.csv": comparison.overall_frame()}
    files = {folder / name: frame for name, frame in frames.items() if len(frame)}
    for file, frame in files.items():
        write_whole(file, to_csv(frame).encode(), replace=True)
    return tuple(files)


HOW_TO_READ = (
    "Every search chooses an architecture on dev; it is retrained from scratch under every retraining seed, and "
    "evaluated once on test. The value of a search is the mean over its retrainings; mean and sample deviation (±) are "
    "over searches, with their number in parentheses.",
    "A 95 % interval estimates the mean over many more searches and retrainings with other seeds, on this model and "
    "this split of the task: it accounts for the variance of search means and for that of the means of retraining "
    "seeds (Student's t, with degrees of freedom by Satterthwaite 1946), but not for the choice of examples in the "
    "test set. If all searches found the same architecture, it applies to further retrainings of that architecture.",
    "Intervals and p-values need at least two searches and two retraining seeds that all of them share, and are left "
    "out if all values or differences are equal. `retraining ±` is the deviation among retrainings of one "
    "architecture.",
    f"The difference to {BASELINE} is paired on the seeds of search and retraining; its interval and two-sided p-value "
    "are computed in the same way. `p (Holm)` is corrected for the number of methods tested on this model and task "
    "(Holm 1979); references, and choices among single criteria, are not part of that family.",
    "Over all models and tasks, every task counts once, with its mean difference over models and seeds, whatever its "
    "metric: Student's t over tasks. That interval applies to other tasks like these, including their test sets; with "
    "a single task there is none.",
    "A job that several searches ask for runs once and is charged to each of them. Epochs are passes over the training "
    "split; FLOP are those of training; time is wall-clock time multiplied by devices; wall time is that of the jobs "
    "as if run one after another; deciding is the time taken by the method itself. Costs are means over completed "
    "searches; `so far` marks a method that has none yet. Redone examples were trained on again after a failure; no "
    "other cost includes them.",
    "`front`: no other row has a better mean on test with no more parameters, or fewer parameters with no worse mean.",
    "`reference` rows may exceed the budget. `chosen on dev` is the single criterion with the best dev metric, "
    "`oracle` the one with the best test metric, which cannot be known in advance. Both cost as much as all single "
    "criteria together.",
)


def _grid(title: str, columns: Columns, rows: Sequence[MethodRow], caption: str = "") -> _Grid:
    cells = tuple(tuple(text(row) for text in columns.values()) for row in rows)
    return _Grid(title, tuple(columns), cells, caption)


def _overall_grid(rows: Sequence[OverallRow]) -> _Grid:
    return _Grid(f"Difference to {BASELINE} on test", OVERALL, tuple(map(overall_cells, rows)), few_tasks_text(rows))


def _rich(grid: _Grid) -> Table:
    table = Table(title=Text(grid.title), caption=Text(grid.caption) if grid.caption else None)
    for number, name in enumerate(grid.header):
        # a narrow console wraps cells instead of cropping them, and keeps methods on one line
        table.add_column(name, overflow="fold", no_wrap=number == 0)
    for cells in grid.rows:
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _markdown(grid: _Grid) -> str:
    table = markdown_rows([grid.header, *grid.rows])
    caption = f"\n\n{grid.caption}." if grid.caption else ""
    return f"**{plain(grid.title)}**\n\n{table}{caption}"


def markdown_rows(rows: Iterable[Iterable[str]]) -> str:
    """Format rows of text, the first of which are the headings, as a Markdown table."""
    head, *body = [tuple(map(plain, cells)) for cells in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *body))


def plain(text: str) -> str:
    """Escape a text for Markdown."""
    for mark in "\\|*_`<[":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _listed(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{plain(name)} {plain(value)}" for name, value in facts.items()) or "unknown"


def _of_metric(rows: Sequence[MethodRow]) -> str:
    return rows[0].metric or "no results yet"


def _budget_text(rows: Sequence[MethodRow]) -> str:
    budget, backbone = rows[0].budget, rows[0].backbone_parameters
    if budget is None:
        return ""
    share = f" ({100 * budget / backbone:.2f} % of the backbone)" if backbone else ""
    return f"Budget: {budget:,} parameters{share}"


def _results_caption(rows: Sequence[MethodRow]) -> str:
    return ". ".join(filter(None, (_budget_text(rows), few_seeds_text(rows))))


def few_seeds_text(rows: Iterable[MethodRow]) -> str:
    """Warn how wide the intervals of differences are with few seeds; an empty string if there are enough."""
    return _few_text([row.difference for row in rows], "seeds")


def few_tasks_text(rows: Iterable[OverallRow]) -> str:
    """Warn how wide the intervals of differences are over few tasks; an empty string if there are enough."""
    return _few_text([row.difference for row in rows], "tasks")


def _few_text(found: Iterable[Difference], what: str) -> str:
    reaches = [(one.n, one.high - one.mean) for one in found if one.high is not None and one.mean is not None]
    number = max((n for n, _ in reaches), default=ENOUGH)
    if number >= ENOUGH:
        return ""
    reach = median(reach for _, reach in reaches)
    return (
        f"Only {number} {what}: half of the intervals of differences extend ±{reach:.4f} or more, so smaller "
        "differences cannot be distinguished from chance"
    )


def _computed_text(comparison: Comparison) -> str:
    charged = [row.total.device_seconds for row in comparison.rows if row.role in ("method", "reference")]
    computed = comparison.computed
    reused = f", {computed.reused:,.0f} of them earlier, for other runs (reused)" if computed.reused else ""
    return (
        f"In total, {computed.jobs:,.0f} jobs ran{reused}: {computed.examples:,.0f} examples, {computed.flops:.2e} "
        f"FLOP, {duration_text(computed.device_seconds)}. Searches were charged {duration_text(sum(charged))} for them."
    )
