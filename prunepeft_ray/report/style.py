"""How all figures look: fonts, colours that colour-blind people tell apart, and room for a phone."""

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
"""Okabe and Ito's, with a grey and a darker yellow that can be seen on white."""
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon", "triangle-down", "bowtie")
"""So that nothing is told by colour alone."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

LONG_LEGEND = {"yref": "container", "y": 0, "yanchor": "bottom", "maxheight": 0.6, "font": {"size": 12}}
"""For a legend with many entries: at the bottom, with the figure above it however many lines it takes."""


def style_of(names: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Give every name a colour, a marker and a dash of its own; the same names in any order get the same.

    The pairs repeat only beyond 40 names.
    """
    ordered = sorted(set(names), key=lambda name: (name != "prunepeft", name))
    return {
        name: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[i // len(COLOURS) % len(DASHES)])
        for i, name in enumerate(ordered)
    }


def dress(figure: go.Figure, *, height: int, x: str = "", y: str = "") -> go.Figure:
    """Give a figure the look of all of them, and return it.

    Args:
        figure: The figure.
        height: In pixels.
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
    # without a title those that the axes have stay
    figure.update_xaxes(look | ({"title_text": x} if x else {}))
    figure.update_yaxes(look | ({"title_text": y} if y else {}))
    return figure


def answer_marker(symbol: str, colour: str, *, hollow: bool) -> dict[str, Any]:
    """Return the marker of a method's answer, as large in every figure.

    Args:
        symbol: Its shape.
        colour: Its colour.
        hollow: Whether it is no rival on equal terms.
    """
    return {
        "symbol": symbol + ("-open" if hollow else ""),
        "color": colour,
        "size": 12,
        "line": {"width": 2, "color": colour},
    }


def plotted(times: pd.Series[Any]) -> list[str]:
    """Return times the way that figures take them, which know no time zones."""
    return list(times.dt.strftime("%Y-%m-%d %H:%M:%S.%f"))


def method_styles(results: Results) -> dict[str, tuple[str, str, str]]:
    """Give every method of a study a colour, a marker and a dash, the same in all figures.

    Args:
        results: The run or study.
    """
    return style_of(row.method for row in results.comparison.rows)


HOLLOW = ("oracle", "choice", "reference")
"""Roles that are drawn hollow, as they are no rivals on equal terms."""


def span(
    found: Sequence[Estimate | Difference], values: Sequence[float] = (), reach: float = 1.5
) -> tuple[float, float]:
    """Return a range that shows every mean, and intervals as far as they leave means apart.

    Args:
        found: Means and intervals; at least one has a mean.
        values: What else must be seen.
        reach: How far intervals may widen the range, as a multiple of the range of the rest.
    """
    means = [*(one.mean for one in found if one.mean is not None), *values]
    spread = max(max(means) - min(means), 0.02)
    lows = [one.low if one.low is not None else math.inf for one in found]
    highs = [one.high if one.high is not None else -math.inf for one in found]
    return (
        max(min([*means, *lows]), min(means) - reach * spread) - 0.1 * spread,
        min(max([*means, *highs]), max(means) + reach * spread) + 0.1 * spread,
    )
