"""A run, a study or several of them at a glance: the result, cost and uncertainty of each method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunepeft_ray.analysis.method_rows import MethodRow
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.report.basis import basis_of
from prunepeft_ray.report.blocks import Basis, Block, Figure, Section, Table
from prunepeft_ray.report.labels import NOTHING, difference_text, notes_text, parameters_text, test_text
from prunepeft_ray.report.style import HOLLOW, apply_style, axis_range, style_of

if TYPE_CHECKING:
    import pandas as pd


def overview_section(results: Results) -> Section:
    """Show the results of every method, and the average cost of one.

    Args:
        results: The run or study.
    """
    comparison = results.comparison
    blocks: list[Block] = []
    for (model, task), rows in comparison.places().items():
        scope = {"model": model, "task": task}
        measured = [row for row in rows if row.test.mean is not None]
        if measured:
            blocks.append(_answers_figure(results, measured, scope))
        blocks.append(_answers_table(results, rows, scope))
    missing = () if blocks else ("everything: no job has finished yet",)
    return Section("overview", "Overview", tuple(blocks), "The result, cost and uncertainty of each method.", missing)


def runs_section(runs: Sequence[Results]) -> Section:
    """Show the results of several runs or studies side by side, each with its own budget; nothing is averaged.

    Args:
        runs: The runs and studies.
    """
    rows = [(results, row) for results in runs for row in results.comparison.rows]
    blocks: list[Block] = []
    for place in dict.fromkeys((row.model, row.task, row.metric) for _, row in rows):
        here = [(results, row) for results, row in rows if (row.model, row.task, row.metric) == place]
        blocks.append(_runs_figure(here))
        blocks.append(_runs_table(here))
    intro = "The results of all runs side by side. Runs may differ in budget, recipe, data and seeds."
    return Section("runs", "Runs compared", tuple(blocks), intro)


def epochs_per_answer(row: MethodRow) -> float:
    """Return the mean cost of one result: epochs of a search plus one retraining."""
    return row.search.epochs + row.single_retraining.epochs


def _answers_figure(results: Results, rows: Sequence[MethodRow], scope: dict[str, str]) -> Figure:
    import plotly.graph_objects as go

    plot, styles = go.Figure(), style_of(row.method for row in rows)
    for row in rows:
        colour, marker, _ = styles[row.method]
        half = 0.0 if row.test.high is None or row.test.mean is None else row.test.high - row.test.mean
        plot.add_scatter(
            x=[epochs_per_answer(row)],
            y=[row.test.mean],
            error_y={"type": "data", "array": [half], "visible": half > 0, "thickness": 1.2, "width": 4},
            mode="markers",
            name=row.method,
            marker={"symbol": marker + ("-open" if row.role in HOLLOW else ""), "color": colour, "size": 11},
            meta={"method": row.method},
            hovertemplate=f"{row.method}: {test_text(row)}<br>%{{x:.2f}} epochs<extra></extra>",
        )
    apply_style(plot, height=420 + 12 * len(rows), x="epochs, search + retraining", y=f"{rows[0].metric} on test")
    lowest, highest = min(map(epochs_per_answer, rows)), max(map(epochs_per_answer, rows))
    if lowest > 0 and highest / lowest > 20:
        plot.update_xaxes(type="log")
    plot.update_yaxes(
        range=axis_range([row.test for row in rows if row.role != "reference"] or [row.test for row in rows])
    )
    return Figure(
        "answers",
        f"Metric against cost: {scope['task']} on {scope['model']}",
        plot,
        _answers_frame(rows),
        basis_of(results, rows, "test"),
        "Up is better, left is cheaper. Markers: mean over searches; bars: 95 % interval for other seeds of search and "
        "retraining; there is none with fewer than two of either, or if all values are equal. Bars may extend beyond "
        "the plot. Hollow: references, and choices among single criteria.",
        scope,
    )


def _answers_frame(rows: Sequence[MethodRow]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "model": row.model,
            "task": row.task,
            "method": row.method,
            "role": row.role,
            "metric": row.metric,
            "searches": row.test.n,
            "test_mean": row.test.mean,
            "test_deviation": row.test.deviation,
            "test_low": row.test.low,
            "test_high": row.test.high,
            "dev_mean": row.dev.mean,
            "parameters": row.parameters_max,
            "budget": row.budget,
            "search_epochs": row.search.epochs,
            "retraining_epochs": row.single_retraining.epochs,
            "search_device_seconds": row.search.device_seconds,
            "search_flops": row.search.flops,
        }
        for row in rows
    )


def _answers_table(results: Results, rows: Sequence[MethodRow], scope: dict[str, str]) -> Table:
    import pandas as pd

    text = pd.DataFrame(
        {
            "method": row.method,
            f"{rows[0].metric or 'metric'} on test": test_text(row),
            "to prunepeft": difference_text(row),
            "parameters": parameters_text(row),
            "epochs, search + retraining": f"{row.search.epochs:,.2f} + {row.single_retraining.epochs:,.2f}",
            "notes": notes_text(row),
        }
        for row in rows
    )
    budget = rows[0].budget
    return Table(
        "methods",
        f"Methods: {scope['task']} on {scope['model']}",
        _answers_frame(rows),
        text,
        basis_of(results, rows, "test"),
        "Mean ± deviation over searches (number of searches)." + (f" Budget: {budget:,} parameters." if budget else ""),
        scope,
    )


def _runs_figure(rows: Sequence[tuple[Results, MethodRow]]) -> Figure:
    import plotly.graph_objects as go

    first = rows[0][1]
    plot, styles = go.Figure(), style_of(results.label for results, _ in rows)
    for results in dict.fromkeys(results for results, _ in rows):
        colour, marker, _ = styles[results.label]
        own = [row for of, row in rows if of is results and row.test.mean is not None]
        plot.add_scatter(
            x=[row.parameters_max for row in own],
            y=[row.test.mean for row in own],
            mode="markers",
            name=results.label,
            marker={"symbol": marker, "color": colour, "size": 11},
            customdata=[[row.method, test_text(row)] for row in own],
            hovertemplate="%{customdata[0]}: %{customdata[1]}<br>%{x:,} parameters<extra>" + results.label + "</extra>",
        )
    apply_style(plot, height=440, x="PEFT parameters", y=f"{first.metric} on test")
    scope = {"model": first.model, "task": first.task}
    return Figure(
        "runs",
        f"Runs compared: {first.task} on {first.model}",
        plot,
        _runs_frame(rows),
        _runs_basis(rows),
        "One point per run and method, at the mean over its searches.",
        scope,
    )


def _runs_table(rows: Sequence[tuple[Results, MethodRow]]) -> Table:
    import pandas as pd

    first = rows[0][1]
    text = pd.DataFrame(
        {
            "run": results.label,
            "method": row.method,
            f"{row.metric or 'metric'} on test": test_text(row),
            "parameters": parameters_text(row),
            "budget": NOTHING if row.budget is None else f"{row.budget:,}",
            "epochs, search + retraining": f"{row.search.epochs:,.2f} + {row.single_retraining.epochs:,.2f}",
            "notes": notes_text(row),
        }
        for results, row in rows
    )
    return Table(
        "run-table",
        f"Runs compared: {first.task} on {first.model}",
        _runs_frame(rows),
        text,
        _runs_basis(rows),
        "",
        {"model": first.model, "task": first.task},
    )


def _runs_frame(rows: Sequence[tuple[Results, MethodRow]]) -> pd.DataFrame:
    frame = _answers_frame([row for _, row in rows])
    frame.insert(0, "run", [results.label for results, _ in rows])
    return frame


def _runs_basis(rows: Sequence[tuple[Results, MethodRow]]) -> Basis:
    of_runs = {results.label: basis_of(results, [r for of, r in rows if of is results], "test") for results, _ in rows}
    return Basis(
        n="; ".join(f"{label}: {basis.n}" for label, basis in of_runs.items()),
        seeds="; ".join(f"{label}: {basis.seeds}" for label, basis in of_runs.items()),
        fidelity="; ".join(f"{label}: {basis.fidelity}" for label, basis in of_runs.items()),
        split="test",
        marks=tuple(f"{label}: {mark}" for label, basis in of_runs.items() for mark in basis.marks),
    )
