"""The tables of the paper: its published numbers, highlighted, beside ours in separate columns."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunepeft_ray.analysis.comparison import BEST_BY_DEV, BEST_BY_TEST
from prunepeft_ray.analysis.method_rows import MethodRow
from prunepeft_ray.analysis.published import (
    COSTS,
    DECODERS,
    ENCODERS,
    TABLES_OF_PAPER,
    OwnRow,
    PublishedRow,
    PublishedTable,
)
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.parsing import parse_json, read_small
from prunepeft_ray.report.basis import basis_of
from prunepeft_ray.report.blocks import Basis, Section, Table
from prunepeft_ray.report.labels import NOTHING, notes_text, test_text

if TYPE_CHECKING:
    import pandas as pd

NOT_RUN = "not run"
_DECODER = re.compile(r"llama|smollm", re.IGNORECASE)
"""Matches the names of decoders among the supported families."""


def paper_section(results: Results) -> Section:
    """Show the published numbers of the paper's tables beside ours, clearly distinguished.

    Args:
        results: The run or study.
    """
    models = list(dict.fromkeys(row.model for row in results.comparison.rows))
    blocks = [_table(results, table, model) for table in TABLES_OF_PAPER for model in _models_of(table, models)]
    intro = (
        "Tables 2 to 6 in the layout of the paper. Published numbers are highlighted and never share a column with "
        "ours: they were obtained with other models, tasks, splits and numbers of runs."
    )
    return Section("paper", "Paper", tuple(blocks), intro)


def _models_of(table: PublishedTable, models: Sequence[str]) -> Sequence[str | None]:
    """Return the models whose rows are shown beside a table; None stands for the published rows alone."""
    if table.number in (ENCODERS, DECODERS):
        models = [model for model in models if is_decoder(model) == (table.number == DECODERS)]
    return models or [None]


def is_decoder(model: str) -> bool:
    """Whether a backbone is a decoder, judged by its config.json if that is local and else by its name.

    Args:
        model: Name or path of the backbone; an unknown one is assumed to be an encoder.
    """
    try:
        kind = str(parse_json(read_small(Path(model) / "config.json"))["model_type"])
    except (OSError, ValueError, LookupError, TypeError):
        kind = Path(model).name
    return bool(_DECODER.search(kind))


@dataclass(frozen=True)
class _Line:
    """A row of a table before it is formatted: a published one, or our results of a method on every task.

    Args:
        name: Heading of the row.
        published: The published row, if it is one.
        method: Label of the method; empty for a published row, and if we did not run the method.
        found: Our results by task.
    """

    name: str
    published: PublishedRow | None = None
    method: str = ""
    found: Mapping[str, MethodRow] | None = None


def _table(results: Results, table: PublishedTable, model: str | None) -> Table:
    import pandas as pd

    rows = [row for row in results.comparison.rows if row.model == model]
    tasks = {row.task: row.metric or "metric" for row in rows}
    lines = list(_lines(results, table, rows))
    shown = [row for line in lines for row in (line.found or {}).values()]
    whose = "this study" if results.is_study else "this search"
    text = pd.DataFrame([_text(table, line, tasks, whose) for line in lines])
    beside = "" if model is None else f", and {whose} on {model}"
    return Table(
        f"table-{table.number}",
        f"Table {table.number} of the paper, {table.title}: published{beside}",
        _numbers(results, table, lines, whose),
        text,
        _basis(results, table, shown, whose),
        f"Published rows: {table.source}; {table.unit}. Rows of {whose}: {_own_terms(table)}; `{NOT_RUN}`: no such "
        "search.",
        {} if model is None else {"model": model},
        [place for place, line in enumerate(lines) if line.published is not None],
    )


def _lines(results: Results, table: PublishedTable, rows: Sequence[MethodRow]) -> Iterator[_Line]:
    """Yield published rows, each followed by our matching rows, and then all our other rows if the table has them."""
    names = {row.method: results.method_names.get(row.method, row.method) for row in rows}
    shown = {row.method for row in table.rows if isinstance(row, OwnRow)}
    for row in table.rows:
        if isinstance(row, PublishedRow):
            yield _Line(row.name, row)
            continue
        labels = [label for label, name in names.items() if row.method == name]
        yield from (_Line(row.name, method=label, found=_by_task(rows, label)) for label in labels or [""])
    if table.others:
        others = [label for label, name in names.items() if name not in (*shown, BEST_BY_DEV, BEST_BY_TEST)]
        yield from (_Line(NOTHING, method=label, found=_by_task(rows, label)) for label in others)


def _by_task(rows: Sequence[MethodRow], method: str) -> dict[str, MethodRow]:
    return {row.task: row for row in rows if row.method == method}


def _text(table: PublishedTable, line: _Line, tasks: Mapping[str, str], whose: str) -> dict[str, str]:
    cells = {"row of the table": line.name, "whose": "published" if line.published else whose, "method": line.method}
    for place, column in enumerate(table.columns):
        text = _published_text(line.published.values[place], column) if line.published else NOTHING
        cells[f"published: {column}"] = text
    for heading, text in _own_cells(table, line, tasks or {"any task": "metric"}).items():
        cells[heading] = NOTHING if line.published else text
    cells["notes"] = line.published.note if line.published else _own_notes(line)
    return cells


def _published_text(value: float, column: str) -> str:
    if math.isnan(value):
        return NOTHING
    return f"{value:g}" if column in ("% params", "search", "retraining") else f"{value:.1f}"


def _own_cells(table: PublishedTable, line: _Line, tasks: Mapping[str, str]) -> dict[str, str]:
    found = line.found or {}
    if table.number == COSTS:
        return {f"ours: {task}, {part}": _cost_text(found.get(task), part) for task in tasks for part in table.columns}
    cells = {}
    if table.number in (ENCODERS, DECODERS):
        shares = [row.percent for row in found.values() if row.percent is not None]
        cells["ours: max. % params"] = f"{max(shares):.2f}" if shares else NOTHING if found else NOT_RUN
    return cells | {f"ours: {task}, {metric} on test": _value_text(found.get(task)) for task, metric in tasks.items()}


def _value_text(row: MethodRow | None) -> str:
    if row is None:
        return NOT_RUN
    if row.test.mean is None:
        return "failed" if row.failed and not row.missing else "not finished"
    return test_text(row)


def _cost_text(row: MethodRow | None, part: str) -> str:
    if row is None:
        return NOT_RUN
    value = _epochs(row, part)
    return "not finished" if value is None else f"{value:,.2f}"


def _epochs(row: MethodRow, part: str) -> float | None:
    if part == "search":
        return row.search.epochs if row.search_ended else None
    return row.single_retraining.epochs if row.single_retraining.jobs else None


def _own_notes(line: _Line) -> str:
    notes = {task: notes_text(row) for task, row in (line.found or {}).items()}
    if len(set(notes.values())) == 1:
        return next(iter(notes.values()))
    return "; ".join(f"{task}: {note}" for task, note in notes.items() if note)


def _numbers(results: Results, table: PublishedTable, lines: Sequence[_Line], whose: str) -> pd.DataFrame:
    """Concatenate published numbers and ours; the column ``whose`` says which they are."""
    import pandas as pd

    frame = results["published"]
    theirs = frame[frame.number == table.number].drop(columns=["terms"]).assign(whose="published")
    ours = [
        {"number": table.number, "row": line.name, "whose": whose, "method": line.method, **number}
        for line in lines
        for row in (line.found or {}).values()
        for number in _own_numbers(table, row)
    ]
    columns = [*theirs.columns, "method", "model", "task", "deviation", "searches"]
    both = [theirs, pd.DataFrame(ours)] if ours else [theirs]
    return pd.concat(both, ignore_index=True).reindex(columns=columns)


def _own_numbers(table: PublishedTable, row: MethodRow) -> Iterator[dict[str, Any]]:
    place = {"model": row.model, "task": row.task}
    if table.number == COSTS:
        for part in table.columns:
            yield {**place, "column": part, "value": _epochs(row, part), "unit": table.unit}
    else:
        known = {"value": row.test.mean, "deviation": row.test.deviation, "searches": row.test.n}
        yield {**place, "column": row.task, "unit": f"{row.metric} on test", **known}


def _own_terms(table: PublishedTable) -> str:
    if table.number == COSTS:
        return "epochs of a search and of one retraining, means over completed searches"
    return "mean ± deviation over searches (number of searches), each the mean over its retrainings"


def _basis(results: Results, table: PublishedTable, rows: Sequence[MethodRow], whose: str) -> Basis:
    mark = f"Published numbers are those of the paper: {table.source}; they were not reproduced here."
    costs = table.number == COSTS
    theirs = Basis(
        "not stated" if costs else "single runs", "not stated", table.terms, "costs only" if costs else "dev"
    )
    absent = Basis(NOT_RUN, NOT_RUN, NOT_RUN, NOT_RUN)
    ours = basis_of(results, rows, "costs only" if costs else "test") if rows else absent

    def both(name: str) -> str:
        return f"published: {getattr(theirs, name)}; {whose}: {getattr(ours, name)}"

    marks = (mark, *dict.fromkeys(ours.marks))
    return Basis(both("n"), both("seeds"), both("fidelity"), both("split"), marks)
