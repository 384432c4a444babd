"""The common style of figures: fonts, colour-blind-safe colours, and layouts that fit a phone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from prunepeft_ray.analysis.results import Results
from prunepeft_ray.analysis.statistics import Difference, Estimate

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

INK, SOFT, GRID = "#1a1a1a", "#5f6368", "#d9dde1"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f", "#b5a800")
"""Okabe and Ito's palette, plus a grey, and a yellow dark enough to be visible on white."""
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon", "triangle-down", "bowtie")
"""Markers, so that nothing is conveyed by colour alone."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

LONG_LEGEND = {"yref": "container", "y": 0, "yanchor": "bottom", "maxheight": 0.6, "font": {"size": 12}}
"""Settings of a legend with many entries: at the bottom, below the figure whatever its height."""


def style_of(names: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Assign every name its own colour, marker and dash, independent of the order of the names.

    Pairs of colour and marker repeat only beyond 40 names.
    """
    ordered = sorted(set(names), key=lambda name: (name != "prunepeft", name))
    return {
        name: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[i // len(COLOURS) % len(DASHES)])
        for i, name in enumerate(ordered)
    }


def apply_style(figure: go.Figure, *, height: int, x: str = "", y: str = "") -> go.Figure:
    """Apply the common style to a figure, and return it.

    Args:
        figure: The figure, modified in place.
        height: Height in pixels.
        x: Title of the x axis.
        y: Title of the y axis.
    """
    figure.update_layout(
        template="none",
        height=height,
        font={"family": "Helvetica, Arial, 'DejaVu Sans', sans-serif", "size": 13, "color": INK},
        margin={"l": 60, "r": 16, "t": 16, "b": 56},
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        hoverlabel={"bgcolor": "#ffffff", "font": {"color": INK}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    look = {"gridcolor": GRID, "zeroline": False, "linecolor": SOFT, "ticks": "outside", "automargin": True}
    # an empty title keeps the titles that the axes already have
    figure.update_xaxes(look | ({"title_text": x} if x else {}))
    figure.update_yaxes(look | ({"title_text": y} if y else {}))
    return figure


def answer_marker(symbol: str, colour: str, *, hollow: bool) -> dict[str, Any]:
    """Return the marker of a method's answer, of the same size in every figure.

    Args:
        symbol: Plotly's name of its shape.
        colour: Its colour.
        hollow: Whether the method does not compete on equal terms.
    """
    return {
        "symbol": symbol + ("-open" if hollow else ""),
        "color": colour,
        "size": 12,
        "line": {"width": 2, "color": colour},
    }


def plotly_times(times: pd.Series[Any]) -> list[str]:
    """Format times for Plotly, which has no time zones."""
    return list(times.dt.strftime("%Y-%m-%d %H:%M:%S.%f"))


def method_styles(results: Results) -> dict[str, tuple[str, str, str]]:
    """Assign every method of a study a colour, a marker and a dash, the same in all figures.

    Args:
        results: The run or study.
    """
    return style_of(row.method for row in results.comparison.rows)


HOLLOW = ("oracle", "choice", "reference")
"""Roles that are drawn hollow, as they do not compete on equal terms."""


def axis_range(
    found: Sequence[Estimate | Difference], values: Sequence[float] = (), reach: float = 1.5
) -> tuple[float, float]:
    """Return an axis range that shows every mean, and as much of the intervals as keeps the means distinguishable.

    Args:
        found: Means and intervals; at least one has a mean.
        values: Further values that must be visible.
        reach: Maximum widening of the range by intervals, as a multiple of the range of the means and values.
    """
    means = [*(one.mean for one in found if one.mean is not None), *values]
    spread = max(max(means) - min(means), 0.02)
    lows = [one.low if one.low is not None else math.inf for one in found]
    highs = [one.high if one.high is not None else -math.inf for one in found]
    return (
        max(min([*means, *lows]), min(means) - reach * spread) - 0.1 * spread,
        min(max([*means, *highs]), max(means) + reach * spread) + 0.1 * spread,
    )
