"""The metric against parameters: fronts, the budget, a sweep of LoRA ranks, hypervolumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from prunepeft_ray.analysis.method_rows import MethodRow
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.analysis.statistics import estimate
from prunepeft_ray.report.basis import basis_of, candidate_fidelity
from prunepeft_ray.report.blocks import Block, Figure, Section, Table
from prunepeft_ray.report.labels import NOTHING, estimate_text, notes_text, parameters_text, test_text
from prunepeft_ray.report.style import HOLLOW, INK, LONG_LEGEND, SOFT, answer_marker, apply_style, method_styles

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SWEEP = ("lora-rank", "uniform-lora")
"""Methods, without their arguments, that use LoRA of the same rank in every layer."""
CANDIDATES = 2000
"""Maximum number of candidates in a figure; beyond it, the fronts and an even sample of the rest are shown."""
FAR = 10
"""Methods with more parameters than this multiple of the budget are listed below the figure instead of drawn."""
WIDE = 20
"""Ratio of largest to smallest number of parameters above which their axis is logarithmic."""


def parameters_section(results: Results) -> Section:
    """Show the metric against the number of parameters.

    Args:
        results: The run or study.
    """
    blocks: list[Block] = []
    missing: list[str] = []
    points, volumes = results["points"], results["hypervolumes"]
    for (model, task), rows in results.comparison.places().items():
        scope = {"model": model, "task": task}
        here = points[(points.model == model) & (points.task == task)]
        answers, candidates = here[here.what == "answer"], here[here.what == "candidate"]
        if len(answers):
            blocks.append(_answers_figure(results, rows, answers, scope))
        else:
            missing.append(f"metric against parameters, {task} on {model}: no retraining has finished yet")
        if len(candidates):
            blocks.append(_candidates_figure(results, rows, candidates, scope))
        found = volumes[(volumes.model == model) & (volumes.task == task)]
        if len(found):
            blocks.append(_hypervolumes_table(results, rows, found, scope))
    intro = "Metric against parameters, with the budget, the Pareto front, and LoRA of other ranks."
    return Section("parameters", "Parameters", tuple(blocks), intro, tuple(missing))


def _answers_figure(
    results: Results, rows: Sequence[MethodRow], answers: pd.DataFrame, scope: Mapping[str, str]
) -> Figure:
    import plotly.graph_objects as go

    plot, styles = go.Figure(), method_styles(results)
    found = [row for row in rows if row.test.mean is not None and row.role in ("method", "reference")]
    measured = [row for row in found if (row.parameters_max or 0) <= FAR * (row.budget or math.inf)]
    far = [f"{row.method} with {parameters_text(row)}: {test_text(row)}" for row in found if row not in measured]
    _add_front(plot, measured)
    _add_sweep(plot, [row for row in measured if is_sweep(results, row.method)])
    for row in measured:
        colour, marker, _ = styles[row.method]
        own = answers[answers.method == row.method]
        plot.add_scatter(
            x=own.parameters,
            y=own.value,
            mode="markers",
            marker={"color": colour, "symbol": marker, "size": 5, "opacity": 0.6},
            meta={"method": row.method},
            legendgroup=row.method,
            showlegend=False,
            customdata=own.seed,
            hovertemplate=f"{row.method}, seed %{{customdata}}: %{{y:.4f}}<br>%{{x:,}} parameters<extra></extra>",
        )
        plot.add_scatter(
            x=[row.parameters_max],
            y=[row.test.mean],
            mode="markers",
            name=row.method,
            legendgroup=row.method,
            marker=answer_marker(marker, colour, hollow=row.role in HOLLOW),
            meta={"method": row.method},
            hovertemplate=f"{row.method}: {test_text(row)}<br>{parameters_text(row)} parameters<extra></extra>",
        )
    shown = answers[answers.method.isin([row.method for row in measured])]
    _apply_style(plot, shown, len(measured), f"{rows[0].metric} on test", rows[0].budget)
    return Figure(
        "answers",
        f"Metric against parameters: {scope['task']} on {scope['model']}",
        plot,
        answers,
        basis_of(results, rows, "test"),
        "Up is better, left is smaller. Large markers: means over searches, at the largest number of parameters among "
        "them; small ones: single searches. Hollow: references, which may exceed the budget. Grey steps: the Pareto "
        "front of means, references included. Dotted: LoRA of the same rank in every layer, one point per rank."
        + (f" Too large to draw: {'; '.join(far)}." if far else ""),
        scope,
    )


def _add_front(plot: go.Figure, rows: Sequence[MethodRow]) -> None:
    front = sorted((row.parameters_max or 0, row.test.mean or 0.0) for row in rows if row.pareto)
    plot.add_scatter(
        x=[parameters for parameters, _ in front],
        y=[value for _, value in front],
        mode="lines",
        line={"shape": "hv", "color": SOFT, "width": 1.5},
        name="front of means",
        hoverinfo="skip",
    )


def _add_sweep(plot: go.Figure, rows: Sequence[MethodRow]) -> None:
    if len(rows) < 2:
        return
    sweep = sorted((row.parameters_max or 0, row.test.mean or 0.0) for row in rows)
    plot.add_scatter(
        x=[parameters for parameters, _ in sweep],
        y=[value for _, value in sweep],
        mode="lines",
        line={"color": INK, "width": 1.2, "dash": "dot"},
        name="LoRA by rank",
        hoverinfo="skip",
    )


def is_sweep(results: Results, method: str) -> bool:
    """Whether a method uses LoRA of the same rank in every layer.

    Args:
        results: The run or study.
        method: Label of the method.
    """
    return results.method_names.get(method, method).split(":")[0] in SWEEP


def _candidates_figure(
    results: Results, rows: Sequence[MethodRow], candidates: pd.DataFrame, scope: Mapping[str, str]
) -> Figure:
    import plotly.graph_objects as go

    plot, styles = go.Figure(), method_styles(results)
    shown = _thinned(candidates)
    share = f"{len(shown):,} of {len(candidates):,}, including all fronts"
    for method, own in shown.groupby("method"):
        colour, marker, _ = styles[str(method)]
        for front, some in own.groupby("front"):
            plot.add_scatter(
                x=some.parameters,
                y=some.value,
                mode="markers",
                name=f"{method}, front of its search" if front else method,
                marker={
                    "symbol": marker if front else marker + "-open",
                    "color": colour,
                    "size": 11 if front else 6,
                    "opacity": 1.0 if front else 0.6,
                },
                meta={"method": method},
                customdata=some.seed,
                hovertemplate=f"{method}, seed %{{customdata}}: %{{y:.4f}}<br>%{{x:,}} parameters<extra></extra>",
            )
    _apply_style(plot, candidates, 2 * candidates.method.nunique(), f"{rows[0].metric} on dev", rows[0].budget)
    basis = basis_of(results, [row for row in rows if row.method in set(candidates.method)], "dev")
    return Figure(
        "candidates",
        f"Candidates: {scope['task']} on {scope['model']}",
        plot,
        candidates,
        replace(basis, n=f"{len(candidates):,} candidates", fidelity=candidate_fidelity(results)),
        "The candidates that searches evaluated; their training differs from that of retrainings, so the two are not "
        "comparable. Filled: on the Pareto front of its search, within the budget."
        + (f" Shown: {share}." if len(shown) < len(candidates) else ""),
        scope,
    )


def _thinned(candidates: pd.DataFrame) -> pd.DataFrame:
    rest = candidates[~candidates.front]
    room = max(CANDIDATES - int(candidates.front.sum()), 0)
    kept = rest.iloc[:: max(1, -(-len(rest) // max(room, 1)))]
    return candidates[candidates.front | candidates.index.isin(kept.index)]


def _apply_style(plot: go.Figure, points: pd.DataFrame, entries: int, y: str, budget: int | None) -> None:
    apply_style(plot, height=400 + 22 * entries, x="PEFT parameters", y=y)
    plot.update_layout(legend=LONG_LEGEND)
    wide = points.parameters.min() > 0 and points.parameters.max() / points.parameters.min() > WIDE
    if wide:
        plot.update_xaxes(type="log", dtick=1)
    if budget is not None:
        plot.add_vline(x=budget, line={"color": INK, "width": 1.2, "dash": "dash"})
        # positions of annotations on a logarithmic axis are logarithms
        plot.add_annotation(
            x=math.log10(budget) if wide else budget,
            y=0,
            yref="y domain",
            text="budget",
            textangle=-90,
            showarrow=False,
            xanchor="right",
            yanchor="bottom",
        )


def _hypervolumes_table(
    results: Results, rows: Sequence[MethodRow], found: pd.DataFrame, scope: Mapping[str, str]
) -> Table:
    import pandas as pd

    cells = []
    for row in rows:
        own = found[found.method == row.method]
        if len(own):
            answers, candidates = (own[own.what == what] for what in ("answer", "candidate"))
            text = {
                "method": row.method,
                "answers, test": estimate_text(estimate(list(answers.hypervolume))),
                "candidates, dev": estimate_text(estimate(list(candidates.hypervolume))),
                "candidates on a front": f"{candidates.front.sum():,} of {candidates.points.sum():,}",
                "notes": notes_text(row),
            }
            cells.append(text if len(candidates) else text | {"candidates on a front": NOTHING})
    limit = found.reference_parameters.iloc[0]
    ends = {str(what): (of.reference_value.iloc[0], of.best_value.iloc[0]) for what, of in found.groupby("what")}
    references = ", ".join(f"for {what}s {low:.4f} (best: {best:.4f})" for what, (low, best) in ends.items())
    return Table(
        "hypervolumes",
        f"Hypervolumes: {scope['task']} on {scope['model']}",
        found,
        pd.DataFrame(cells),
        basis_of(results, rows, "test for answers, dev for candidates"),
        "The share of the rectangle from a reference point, the same for all methods, to the best metric at zero "
        "parameters that is dominated by the answer of a search, or by the front of its candidates; mean ± deviation "
        "over searches (number of searches). Only points within the budget count. Reference point: "
        f"{limit:,.0f} parameters, 10 % above the budget, and a metric below the worst of any method by 10 % of the "
        f"range, {references}. It moves when methods are added, so compare within this table only.",
        scope,
    )
