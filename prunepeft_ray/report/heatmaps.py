"""Stacked heatmaps with numbers in the cells, a common scale, and crosses for cells that do not exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunepeft_ray.report.style import SOFT, apply_style

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

LIGHT_TO_DARK = ("#f3f7fc", "#c6dbef", "#6baed6", "#2171b5", "#08306b")
"""A single hue whose lightness falls evenly from low to high, so that it also works in black and white."""
ABSENT = "#dcdcdc"
_ROW, _GAP, _TOP, _BELOW, _BAR = 22, 26, 72, 60, 24
"""Pixels: height of a row, gap between panels, margins above and below, and distance from the first to the scale."""
_SHORT = 3
"""Characters of a column name that fit below it on a phone."""


@dataclass(frozen=True)
class Panel:
    """A heatmap.

    Args:
        title: Heading above it.
        values: A number for every cell, NaN for cells that do not exist; rows from the bottom up, columns from the
            left.
        text: Text in the cells.
        hover: Text shown when the pointer is over a cell.
    """

    title: str
    values: pd.DataFrame
    text: pd.DataFrame
    hover: pd.DataFrame


def share_text(value: float) -> str:
    """Format a share as briefly as possible: ``0``, ``.25`` or ``1``; an empty string for NaN."""
    if value != value:
        return ""
    return f"{value:.0f}" if value in (0, 1) else f"{value:.2f}".removeprefix("0")


def stacked(
    panels: Sequence[Panel],
    *,
    x: str,
    scale: str,
    limits: tuple[float, float] = (0.0, 1.0),
    dark_is_low: bool = False,
    method: str | None = None,
) -> go.Figure:
    """Stack heatmaps that share their columns and their scale.

    Args:
        panels: The heatmaps, top first.
        x: Title of the x axis.
        scale: Title of the colour scale.
        limits: Ends of the colour scale.
        dark_is_low: Whether the smallest number is the darkest.
        method: The method whose data these are, by which the page filters.
    """
    import plotly.graph_objects as go

    rows = [len(panel.values) for panel in panels]
    inside = _ROW * sum(rows) + _GAP * (len(panels) - 1)
    long = max(len(str(name)) for name in panels[-1].values.columns)
    below = _BELOW + (5 * long if long > _SHORT else 0)
    hidden: dict[str, Any] = {"showticklabels": False, "ticks": ""}
    axes, titles, top = {}, [], inside
    for number, panel in enumerate(panels, start=1):
        bottom = top - _ROW * len(panel.values)
        last = {"title": {"text": x}, "tickangle": -45 if long > _SHORT else 0} if number == len(panels) else hidden
        axes[f"xaxis{number}"] = {"anchor": f"y{number}", "type": "category", "showgrid": False, **last}
        axes[f"yaxis{number}"] = {
            "anchor": f"x{number}",
            "type": "category",
            "showgrid": False,
            "dtick": 1,
            "domain": [max(0.0, bottom / inside), top / inside],
        }
        titles.append(_title(panel.title, top / inside))
        top = bottom - _GAP
    bar = {"orientation": "h", "thickness": 8, "len": 0.8, "outlinewidth": 0, "tickfont": {"size": 11}}
    bar |= {"title": {"text": scale, "side": "top", "font": {"size": 12}}, "y": 1 + _BAR / inside, "yanchor": "bottom"}
    colours = {"colorscale": list(LIGHT_TO_DARK), "reversescale": dark_is_low, "cmin": limits[0], "cmax": limits[1]}
    layout = axes | {"annotations": titles, "coloraxis": colours | {"colorbar": bar}, "showlegend": False}
    traces = [trace for number, panel in enumerate(panels, 1) for trace in _traces(panel, number, method)]
    figure = apply_style(go.Figure({"data": traces, "layout": layout}), height=inside + _TOP + below)
    return figure.update_layout(plot_bgcolor=ABSENT, margin={"t": _TOP, "b": below, "l": 40})


def _title(text: str, y: float) -> dict[str, Any]:
    """The annotation above a panel, aligned with its cells."""
    place = {"x": 0, "xref": "paper", "xanchor": "left", "y": y, "yref": "paper", "yanchor": "bottom"}
    return place | {"text": text, "showarrow": False, "font": {"size": 12}}


def _traces(panel: Panel, number: int, method: str | None) -> list[dict[str, Any]]:
    """The cells and crosses of the n-th panel, as plain dictionaries, which are faster than Plotly's classes."""
    columns, rows = [str(name) for name in panel.values.columns], [str(name) for name in panel.values.index]
    common = {"xaxis": f"x{number}", "yaxis": f"y{number}", "meta": {"method": method} if method else None}
    cells = common | {
        "type": "heatmap",
        "x": columns,
        "y": rows,
        "z": panel.values.to_numpy(dtype="float64"),
        "text": panel.text.to_numpy(),
        "texttemplate": "%{text}",
        "customdata": panel.hover.to_numpy(),
        "hovertemplate": "%{customdata}<extra></extra>",
        "hoverongaps": False,
        "coloraxis": "coloraxis",
        "xgap": 1,
        "ygap": 1,
    }
    absent = [(columns[j], rows[i]) for i, j in zip(*panel.values.isna().to_numpy().nonzero(), strict=True)]
    crosses = common | {
        "type": "scatter",
        "x": [place[0] for place in absent],
        "y": [place[1] for place in absent],
        "mode": "markers",
        "marker": {"symbol": "x-thin", "size": 6, "line": {"color": SOFT, "width": 1}},
        "hovertemplate": "no such slot<extra></extra>",
    }
    return [cells, crosses] if absent else [cells]
