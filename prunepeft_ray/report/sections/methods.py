"""The results of every method: metric on test, difference to PrunePEFT, and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prunepeft_ray.analysis.method_rows import BASELINE, MethodRow, OverallRow, frame_of
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.analysis.statistics import Difference, Estimate
from prunepeft_ray.report.basis import basis_of
from prunepeft_ray.report.blocks import Basis, Block, Figure, Section, Table
from prunepeft_ray.report.comparison_columns import OVERALL, RESULTS, overall_cells
from prunepeft_ray.report.cost_columns import RETRAINING, RETRAINING_COSTS, SEARCH, SEARCH_COSTS, Columns, with_redone
from prunepeft_ray.report.labels import p_text, test_text
from prunepeft_ray.report.style import HOLLOW, INK, answer_marker, apply_style, axis_range, method_styles
from prunepeft_ray.report.terminal_comparison import few_seeds_text, few_tasks_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PER_METHOD = 42
"""Height in pixels of each method in a figure with one line per method."""
REACH = 0.3
"""Maximum widening of the x axis by intervals, as a multiple of the range of the means."""
_FAMILY = (
    "p: two-sided; Holm: corrected for the number of methods tested. References, and choices among single criteria, "
    "are hollow and not part of that family."
)


_NAME = {"font": {"size": 12}, "bgcolor": "rgba(255,255,255,0.8)", "borderpad": 0}
_SEARCH_COSTS: Columns = {
    **SEARCH_COSTS,
    # the page filters by the plain name of the method
    "method": lambda row: row.method,
    "notes": lambda row: "so far" if row.search.jobs and not row.search_ended else "",
}


def methods_section(results: Results) -> Section:
    """Show the results of every method on every model and task, their uncertainty, and their cost.

    Args:
        results: The run or study.
    """
    blocks: list[Block] = []
    missing: list[str] = []
    comparison = results.comparison
    for (model, task), rows in comparison.places().items():
        scope = {"model": model, "task": task}
        here = f"{task} on {model}"
        if any(row.test.mean is not None for row in rows):
            blocks.append(_tests_figure(results, rows, scope))
        else:
            missing.append(f"metric on test, {here}: no retraining has finished yet")
        if any(row.difference.mean is not None for row in rows):
            blocks.append(_differences_figure(results, rows, scope))
        elif results.is_study:
            missing.append(f"differences to {BASELINE}, {here}: no other method has searches with the same seeds yet")
        basis = basis_of(results, rows, "dev and test")
        searches = with_redone(_SEARCH_COSTS, rows, SEARCH)
        retrainings = with_redone(RETRAINING_COSTS, rows, RETRAINING)
        blocks += [
            _table("results", f"Results: {here}", RESULTS, rows, basis, scope),
            _table("search-costs", f"Cost of a search: {here}", searches, rows, basis, scope),
            _table("retraining-costs", f"Cost of retraining: {here}", retrainings, rows, basis, scope),
        ]
    if len(comparison.places()) > 1 and any(row.pairs for row in comparison.overall):
        blocks += [_overall_figure(results), _overall_table(results)]
    intro = "The final metric of every method, its difference to PrunePEFT, and the costs of search and retraining."
    return Section("methods", "Methods", tuple(blocks), intro, tuple(missing))


def _tests_figure(results: Results, rows: Sequence[MethodRow], scope: Mapping[str, str]) -> Figure:
    measured = [row for row in rows if row.test.mean is not None]
    plot, styles = _lines({row.method: _named(row) for row in measured}), method_styles(results)
    for row in measured:
        _add_interval(plot, row, row.test, f"{row.method}: {test_text(row)}", styles[row.method])
        plot.add_scatter(
            x=list(row.tests.values()),
            y=[row.method] * len(row.tests),
            mode="markers",
            marker={"color": INK, "size": 5},
            meta={"method": row.method},
            customdata=list(row.tests),
            hovertemplate=f"{row.method}, seed %{{customdata}}: %{{x:.4f}}<extra></extra>",
        )
    _style_lines(plot, len(measured), f"{rows[0].metric} on test")
    seen = [value for row in measured for value in row.tests.values()]
    plot.update_xaxes(range=axis_range([row.test for row in measured], seen, REACH))
    return Figure(
        "tests",
        f"Final metric: {scope['task']} on {scope['model']}",
        plot,
        _values_frame(measured),
        basis_of(results, rows, "test"),
        "Small dots: single searches, mean over retrainings. Marker and bar: mean over searches with its 95 % interval "
        "for other seeds of search and retraining; there is none with fewer than two of either, or if all values are "
        "equal. Bars may extend beyond the plot. Hollow: references, which may exceed the budget, and choices among "
        "single criteria, of which the oracle chooses on test.",
        scope,
    )


def _differences_figure(results: Results, rows: Sequence[MethodRow], scope: Mapping[str, str]) -> Figure:
    compared = [row for row in rows if row.difference.mean is not None]
    frame = results["differences"]
    data = frame[(frame.model == scope["model"]) & (frame.task == scope["task"])]
    return Figure(
        "differences",
        f"Differences to {BASELINE}: {scope['task']} on {scope['model']}",
        _forest(compared, method_styles(results), f"difference in {rows[0].metric} on test"),
        data,
        basis_of(results, rows, "test"),
        f"Right of the line: better than {BASELINE}. Mean difference, paired on the seeds of search and retraining, "
        f"with its 95 % interval for other seeds; bars may extend beyond the plot. {_FAMILY}"
        f"{_sentence(few_seeds_text(rows))}",
        scope,
    )


def _overall_figure(results: Results) -> Figure:
    rows = [row for row in results.comparison.overall if row.difference.mean is not None]
    frame = results["differences"]
    return Figure(
        "overall",
        f"Differences to {BASELINE}: over all models and tasks",
        _forest(rows, method_styles(results), "difference on test"),
        frame[frame.task == "all"],
        _overall_basis(results),
        f"Right of the line: better than {BASELINE}. {_over_tasks(results)}",
    )


def _overall_table(results: Results) -> Table:
    import pandas as pd

    frame = results["differences"]
    return Table(
        "overall-tests",
        f"Differences to {BASELINE} over all models and tasks",
        frame[frame.task == "all"],
        pd.DataFrame(map(overall_cells, results.comparison.overall), columns=OVERALL),
        _overall_basis(results),
        _over_tasks(results),
    )


def _over_tasks(results: Results) -> str:
    return (
        "Every task counts once, with its mean difference over models and seeds, whatever its metric; the 95 % "
        f"interval applies to other tasks like these. {_FAMILY}{_sentence(few_tasks_text(results.comparison.overall))}"
    )


def _sentence(text: str) -> str:
    return f" {text}." if text else ""


def _overall_basis(results: Results) -> Basis:
    basis = basis_of(results, results.comparison.rows, "test")
    pairs = sorted({row.pairs for row in results.comparison.overall})
    counts = " to ".join(str(count) for count in dict.fromkeys((pairs[0], pairs[-1])))
    places = f"{len(results.comparison.places())} combinations of model and task"
    unfinished = "methods with failed or missing searches have fewer pairs: see the tables above"
    return Basis(f"{counts} pairs per method, over {places}", basis.seeds, basis.fidelity, "test", (unfinished,))


def _forest(
    rows: Sequence[MethodRow | OverallRow], styles: Mapping[str, tuple[str, str, str]], title: str
) -> go.Figure:
    plot = _lines({row.method: f"{_named(row)}, {_p_named(row.difference)}" for row in rows})
    for row in rows:
        found = row.difference
        hover = f"{row.method}: {found.mean:+.4f}, {row.pairs} pair{'s' if row.pairs > 1 else ''}"
        _add_interval(plot, row, found, hover, styles[row.method])
    _style_lines(plot, len(rows), title)
    plot.add_vline(x=0, line={"color": INK, "width": 1})
    plot.update_xaxes(range=axis_range([row.difference for row in rows], [0.0], REACH))
    return plot


def _lines(names: Mapping[str, str]) -> go.Figure:
    """Create a figure with a line for each method, named above the line, as a phone has no room beside it."""
    import plotly.graph_objects as go

    methods = list(names)
    plot = go.Figure(layout={"showlegend": False})
    plot.update_yaxes(type="category", categoryorder="array", categoryarray=methods[::-1])
    plot.update_yaxes(range=[-0.5, len(methods) - 0.2])
    for method, name in names.items():
        plot.add_annotation(
            x=0, y=method, xref="x domain", text=name, showarrow=False, xanchor="left", yshift=15, **_NAME
        )
    return plot


def _style_lines(plot: go.Figure, lines: int, title: str) -> None:
    apply_style(plot, height=90 + PER_METHOD * lines, x=title)
    plot.update_layout(margin={"l": 16})
    plot.update_xaxes(nticks=6, tickangle=0)
    plot.update_yaxes(showticklabels=False, ticks="")


def _add_interval(
    plot: go.Figure,
    row: MethodRow | OverallRow,
    found: Estimate | Difference,
    hover: str,
    style: tuple[str, str, str],
) -> None:
    colour, marker, _ = style
    half = 0.0 if found.high is None or found.mean is None else found.high - found.mean
    plot.add_scatter(
        x=[found.mean],
        y=[row.method],
        error_x={"type": "data", "array": [half], "visible": half > 0, "thickness": 1.6, "width": 0, "color": colour},
        mode="markers",
        marker=answer_marker(marker, colour, hollow=row.role in HOLLOW),
        meta={"method": row.method},
        hovertemplate=f"{hover}<extra></extra>",
    )


def _named(row: MethodRow | OverallRow) -> str:
    return f"<b>{row.method}</b>{' (reference)' if row.role == 'reference' else ''}"


def _p_named(found: Difference) -> str:
    return f"<span style='font-size:11px'>{'no test' if found.p is None else 'p ' + p_text(found)}</span>"


def _values_frame(rows: Sequence[MethodRow]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "model": row.model,
            "task": row.task,
            "method": row.method,
            "role": row.role,
            "seed": seed,
            "metric": row.metric,
            "test": value,
            "mean": row.test.mean,
            "deviation": row.test.deviation,
            "low": row.test.low,
            "high": row.test.high,
        }
        for row in rows
        for seed, value in row.tests.items()
    )


def _table(
    key: str, title: str, columns: Columns, rows: Sequence[MethodRow], basis: Basis, scope: Mapping[str, str]
) -> Table:
    import pandas as pd

    text = pd.DataFrame({name: [text(row) for row in rows] for name, text in columns.items()})
    captions = {
        "results": "Mean ± deviation over searches (number of searches), each the mean over its retrainings. `front`: "
        "no other row has a better mean on test with no more parameters, or fewer parameters with no worse mean.",
        "search-costs": "Means over completed searches; `so far`: none is complete yet. A job that several searches "
        "ask for is charged to each.",
        "retraining-costs": "All retrainings of a search together, and a single one.",
    }
    return Table(key, title, frame_of(rows), text, basis, captions[key], scope)
