"""The cost of better results: best metric so far against cost, and search against retraining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prunepeft_ray.analysis.cost_frames import STEPS, UNITS
from prunepeft_ray.analysis.method_rows import MethodRow, frame_of
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.report.basis import basis_of, candidate_fidelity
from prunepeft_ray.report.blocks import Block, Figure, Section, Table
from prunepeft_ray.report.labels import NOTHING, notes_text
from prunepeft_ray.report.style import HOLLOW, LONG_LEGEND, apply_style, method_styles
from prunepeft_ray.text import duration_text

if TYPE_CHECKING:
    import pandas as pd


def cost_section(results: Results) -> Section:
    """Show the metric reached against cost, and how the cost of search compares with that of retraining.

    Args:
        results: The run or study.
    """
    blocks: list[Block] = []
    missing: list[str] = []
    curves = results["cost_curves"]
    for (model, task), rows in results.comparison.places().items():
        scope = {"model": model, "task": task}
        here = curves[(curves.model == model) & (curves.task == task)]
        answers = [row for row in rows if row.dev.mean is not None and row.role != "oracle"]
        if len(here) or answers:
            blocks.append(_curves_figure(results, rows, answers, here, scope))
        else:
            missing.append(f"metric against cost, {task} on {model}: no candidate and no retraining has finished yet")
        if any(row.search.jobs or row.single_retraining.jobs for row in rows):
            blocks.append(_ratio_table(results, rows, scope))
    intro = "The best dev metric so far against the cost of the search so far, and the costs of search and retraining."
    return Section("cost", "Cost", tuple(blocks), intro, tuple(missing))


def _curves_figure(
    results: Results,
    rows: Sequence[MethodRow],
    answers: Sequence[MethodRow],
    curves: pd.DataFrame,
    scope: Mapping[str, str],
) -> Figure:
    import plotly.graph_objects as go

    styles = method_styles(results)
    traces = [_curve(curves[curves.method == method], styles) for method in curves.method.unique()]
    traces += [_answer(row, styles) for row in answers]
    flat = [trace for of_method in traces for trace in of_method]
    plot = go.Figure()
    for trace, points in flat:
        x, y = points["epochs"]
        plot.add_scatter(x=x, y=y, **trace)
    apply_style(plot, height=440 + 22 * len(traces), x=UNITS["epochs"], y=f"{rows[0].metric} on dev")
    plot.update_layout(legend=LONG_LEGEND, margin={"t": 56}, updatemenus=[_unit_menu(flat)])
    plot.update_xaxes(rangemode="tozero")
    basis = basis_of(results, rows, "dev")
    fidelity = f"markers: {basis.fidelity}" + (f"; lines: {candidate_fidelity(results)}" if len(curves) else "")
    return Figure(
        "best-so-far",
        f"Metric against cost: {scope['task']} on {scope['model']}",
        plot,
        _curves_frame(curves, answers),
        replace(basis, fidelity=fidelity),
        "Up and left is better. The menu selects the unit of cost; epochs are passes over the training split. "
        f"Lines: best candidate so far on dev, mean over searches, at most {STEPS} points; shaded: range over "
        "searches; a completed search keeps its last value. Markers: the final architecture, retrained, on dev, at the "
        "mean cost of the search. Candidates are trained differently from final architectures, so compare lines with "
        "lines and markers with markers. Hollow: references, and the best single criterion by dev, which costs as much "
        "as all criteria together.",
        scope,
    )


Trace = tuple[dict[str, Any], dict[str, tuple[list[float], list[float]]]]
"""The settings of a trace, and its points by unit of cost."""


def _curve(curves: pd.DataFrame, styles: Mapping[str, tuple[str, str, str]]) -> list[Trace]:
    method = str(curves.method.iloc[0])
    colour, marker, dash = styles[method]
    rounded = curves.round({"value": 5, "lowest": 5, "highest": 5}).assign(
        cost=[float(f"{x:.6g}") for x in curves.cost]
    )
    by_unit = {str(unit): own for unit, own in rounded.groupby("unit")}
    band = {unit: _outline(own) for unit, own in by_unit.items()}
    line = {unit: (list(own.cost), list(own.value)) for unit, own in by_unit.items()}
    common = {"meta": {"method": method}, "legendgroup": method}
    of_band = {
        "mode": "lines",
        "fill": "toself",
        "fillcolor": colour,
        "opacity": 0.15,
        "line": {"width": 0},
        "hoverinfo": "skip",
    }
    of_line = {
        "mode": "lines+markers",
        "line": {"shape": "hv", "color": colour, "dash": dash, "width": 2},
        "marker": {"symbol": marker, "color": colour, "size": 6, "maxdisplayed": 6},
        "name": f"{method}, candidates",
    }
    return [
        ({**common, **of_band, "showlegend": False}, band),
        (
            {**common, **of_line, "hovertemplate": f"{method}: best candidate %{{y:.4f}} at %{{x:.4g}}<extra></extra>"},
            line,
        ),
    ]


def _outline(curve: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Trace the band between the curves: along the steps of the highest values, and back along the lowest."""
    costs, above, below = list(curve.cost), list(curve.highest), list(curve.lowest)
    x = [cost for cost in costs for _ in (0, 1)][1:]
    up, down = ([value for value in values for _ in (0, 1)][:-1] for values in (above, below))
    return x + x[::-1], up + down[::-1]


def _answer(row: MethodRow, styles: Mapping[str, tuple[str, str, str]]) -> list[Trace]:
    colour, marker, _ = styles[row.method]
    symbol = marker + ("-open" if row.role in HOLLOW else "")
    look = {
        "mode": "markers",
        "name": row.method,
        "legendgroup": row.method,
        "meta": {"method": row.method},
        "marker": {"symbol": symbol, "color": colour, "size": 12, "line": {"width": 2, "color": colour}},
        "cliponaxis": False,
        "hovertemplate": f"{row.method}, retrained: %{{y:.4f}} at %{{x:.4g}}<extra></extra>",
    }
    return [(look, {unit: ([getattr(row.search, unit)], [row.dev.mean or 0.0]) for unit in UNITS})]


def _unit_menu(traces: Sequence[Trace]) -> dict[str, Any]:
    buttons = []
    for unit, title in UNITS.items():
        data = {"x": [points[unit][0] for _, points in traces], "y": [points[unit][1] for _, points in traces]}
        layout = {"xaxis.title.text": title, "xaxis.autorange": True, "yaxis.autorange": True}
        buttons.append({"label": unit.replace("_", "-"), "method": "update", "args": [data, layout]})
    place = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 8}}
    return {"buttons": buttons, "direction": "down", "showactive": True, **place}


def _curves_frame(curves: pd.DataFrame, answers: Sequence[MethodRow]) -> pd.DataFrame:
    import pandas as pd

    ends = pd.DataFrame(
        {
            "model": row.model,
            "task": row.task,
            "method": row.method,
            "unit": unit,
            "cost": getattr(row.search, unit),
            "searches": row.dev.n,
            "value": row.dev.mean,
        }
        for row in answers
        for unit in UNITS
    )
    parts = [curves.assign(what="candidates"), ends.assign(what="answer retrained")]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _ratio_table(results: Results, rows: Sequence[MethodRow], scope: Mapping[str, str]) -> Table:
    import pandas as pd

    text = pd.DataFrame(
        {
            "method": row.method,
            "search, epochs": _number(row.search.epochs, row.search_ended),
            "one retraining, epochs": _number(row.single_retraining.epochs, bool(row.single_retraining.jobs)),
            "search / retraining": ratio_text(row),
            "search, time": duration_text(row.search.device_seconds) if row.search_ended else NOTHING,
            "one retraining, time": duration_text(row.single_retraining.device_seconds)
            if row.single_retraining.jobs
            else NOTHING,
            "notes": notes_text(row),
        }
        for row in rows
    )
    if any(row.total.redone for row in rows):
        text.insert(len(text.columns) - 1, "redone examples, in all", [f"{row.total.redone:,.0f}" for row in rows])
    return Table(
        "search-retraining",
        f"Cost of search and retraining: {scope['task']} on {scope['model']}",
        frame_of(rows),
        text,
        basis_of(results, rows, "none: costs only"),
        "Means over completed searches; epochs are passes over the training split, and time is wall-clock time "
        "multiplied by devices. The ratio is that of the epochs, as in Table 4 of the paper; see the Paper section.",
        scope,
    )


def ratio_text(row: MethodRow) -> str:
    """Format the cost of a search as a multiple of that of a retraining, in epochs."""
    if not row.search_ended or not row.single_retraining.epochs:
        return NOTHING
    return f"{row.search.epochs / row.single_retraining.epochs:.2f}"


def _number(value: float, known: bool) -> str:
    return f"{value:,.2f}" if known else NOTHING
