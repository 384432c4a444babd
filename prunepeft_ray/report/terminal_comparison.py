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
"""With fewer seeds or tasks, intervals are so wide that tables say so."""


@dataclass(frozen=True)
class _Grid:
    """A table's text, before it is drawn one way or another."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Return what to print of a comparison: for every model and task what was found and what it cost.

    Args:
        comparison: The comparison; of an unfinished study what there is so far.
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
    """Write a comparison as a Markdown document that says how it came about and how to read it.

    Args:
        comparison: The comparison.
        command: What to type to get it.
        versions: Versions of Python and packages.
        hardware: The machine.
    """
    parts = ["# Search methods compared", f"```\n{command}\n```"]
    parts.append(f"Versions: {_listed(versions)}.\n\nHardware: {_listed(hardware)}.")
    for (model, task), rows in comparison.places().items():
        parts.append(f"## {plain(task)} on {plain(model)}")
        parts.append(_markdown(_grid(f"What was found: {_of_metric(rows)}", RESULTS, rows, _results_caption(rows))))
        parts.append(_markdown(_grid("What a search cost", with_redone(SEARCH_COSTS, rows, SEARCH), rows)))
        parts.append(_markdown(_grid("What retraining cost", with_redone(RETRAINING_COSTS, rows, RETRAINING), rows)))
    if comparison.overall:
        parts.append(f"## Over all models and tasks\n\n{_markdown(_overall_grid(comparison.overall))}")
    parts.append(_computed_text(comparison))
    parts.append("## How to read this\n\n" + "\n".join(f"- {line}" for line in HOW_TO_READ))
    return "\n\n".join(parts) + "\n"


def write_csv(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Write a comparison's numbers into a folder: ``methods.csv``, and ``overall.csv`` if there is anything overall.

    Args:
        comparison: The comparison.
        folder: The folder, on a disk or in a bucket; made if it is not there.

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
    "Every search chooses on dev; its choice is retrained from scratch under every retraining seed, and measured on "
    "test once. A search counts with the mean over its retrainings; mean and sample deviation (±) are over searches, "
    "whose number stands in parentheses.",
    "A 95 % interval says where the mean would lie over many more searches and retrainings with other seeds on this "
    "model and this very split of the task: the variance of search means and that of the means of retraining seeds "
    "both widen it (Student's t, degrees of freedom by Satterthwaite 1946). It does not cover which sentences happen "
    "to be in the test set. Where all searches found the same architecture it covers other retrainings of that one.",
    "No interval and no p are given without two searches and two retraining seeds that all of them have, or where all "
    "values or differences are equal. `retraining ±` is the deviation among retrainings of one choice.",
    f"The difference to {BASELINE} is paired on the seeds of search and retraining; interval and p (two-sided) are of "
    "the same kind. `p (Holm)` is corrected for the number of methods that are tested on this model and task (Holm "
    "1979); rows of references, and of a choice among single criteria, are not part of that family.",
    "Over all, every task counts once, with its mean difference over models and seeds, whatever its metric: Student's "
    "t over tasks. That interval is for other tasks like these, test sets included; with one task there is none.",
    "A job that several searches ask for runs once and is charged to each of them. Epochs are passes over the training "
    "split; FLOP are those of training; time is wall-clock time times devices; wall time is that of the jobs as if "
    "they ran one by one; deciding is what the method itself took. Costs are means over the searches that are done; "
    "`so far`: none is. Redone examples were trained on once more, in attempts that were lost; no cost includes them.",
    "`front`: no other row has a better mean on test at no more parameters, or fewer parameters at no worse a mean.",
    "`reference` rows may be above the budget. `chosen on dev` is the single criterion with the best dev metric, "
    "`oracle` the one with the best test metric, which nobody can know before. Both cost all single criteria together.",
)


def _grid(title: str, columns: Columns, rows: Sequence[MethodRow], caption: str = "") -> _Grid:
    cells = tuple(tuple(text(row) for text in columns.values()) for row in rows)
    return _Grid(title, tuple(columns), cells, caption)


def _overall_grid(rows: Sequence[OverallRow]) -> _Grid:
    return _Grid(f"Difference to {BASELINE} on test", OVERALL, tuple(map(overall_cells, rows)), few_tasks_text(rows))


def _rich(grid: _Grid) -> Table:
    table = Table(title=Text(grid.title), caption=Text(grid.caption) if grid.caption else None)
    for number, name in enumerate(grid.header):
        # on a narrow console nothing is left out, and methods stay readable
        table.add_column(name, overflow="fold", no_wrap=number == 0)
    for cells in grid.rows:
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _markdown(grid: _Grid) -> str:
    table = markdown_rows([grid.header, *grid.rows])
    caption = f"\n\n{grid.caption}." if grid.caption else ""
    return f"**{plain(grid.title)}**\n\n{table}{caption}"


def markdown_rows(rows: Iterable[Iterable[str]]) -> str:
    """Write rows of text, the first of them the headings, as a Markdown table."""
    head, *body = [tuple(map(plain, cells)) for cells in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *body))


def plain(text: str) -> str:
    """Keep a name from being taken for markup."""
    for mark in "\\|*_`<[":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _listed(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{plain(name)} {plain(value)}" for name, value in facts.items()) or "unknown"


def _of_metric(rows: Sequence[MethodRow]) -> str:
    return rows[0].metric or "no job yet"


def _budget_text(rows: Sequence[MethodRow]) -> str:
    budget, backbone = rows[0].budget, rows[0].backbone_parameters
    if budget is None:
        return ""
    share = f" ({100 * budget / backbone:.2f} % of the backbone)" if backbone else ""
    return f"Budget: {budget:,} parameters{share}"


def _results_caption(rows: Sequence[MethodRow]) -> str:
    return ". ".join(filter(None, (_budget_text(rows), few_seeds_text(rows))))


def few_seeds_text(rows: Iterable[MethodRow]) -> str:
    """Say how far intervals of differences reach on a model and task with few seeds; nothing where there are enough."""
    return _few_text([row.difference for row in rows], "seeds")


def few_tasks_text(rows: Iterable[OverallRow]) -> str:
    """Say how far intervals of differences reach over few tasks; nothing where there are enough."""
    return _few_text([row.difference for row in rows], "tasks")


def _few_text(found: Iterable[Difference], what: str) -> str:
    reaches = [(one.n, one.high - one.mean) for one in found if one.high is not None and one.mean is not None]
    number = max((n for n, _ in reaches), default=ENOUGH)
    if number >= ENOUGH:
        return ""
    reach = median(reach for _, reach in reaches)
    return (
        f"Only {number} {what}: half of the intervals of differences reach ±{reach:.4f} or farther, so a smaller "
        "difference cannot be told from chance"
    )


def _computed_text(comparison: Comparison) -> str:
    charged = [row.total.device_seconds for row in comparison.rows if row.role in ("method", "reference")]
    computed = comparison.computed
    return (
        f"In all {computed.jobs:,.0f} jobs ran: {computed.examples:,.0f} examples, {computed.flops:.2e} FLOP, "
        f"{duration_text(computed.device_seconds)}. Searches are charged {duration_text(sum(charged))} for them."
    )
