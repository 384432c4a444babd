"""The parts of a report: sections of figures and tables, each stating the data behind its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Basis:
    """The data behind the numbers of a figure or a table, shown below each of them.

    Args:
        n: Number of what, such as ``"2 searches per method, 4 retrainings each"``.
        seeds: Seeds, such as ``"0, 1"``.
        fidelity: Amount of training, such as ``"200 examples, 2 epochs"``.
        split: Split of the measurements: dev, test, a held-out part of the subset, or training only.
        marks: Caveats: choices by an oracle, unfinished jobs, missing searches.
    """

    n: str
    seeds: str
    fidelity: str
    split: str
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """An interactive figure.

    Args:
        key: Name in links and files; lower case and hyphens, unique within a section and scope.
        title: What it shows.
        plot: The figure. The ``meta`` of a trace may hold ``{"method": ...}``, by which the page filters.
        data: The numbers that are drawn.
        basis: The data behind them.
        caption: How to read it; plain text.
        scope: Its ``run``, ``model`` and ``task``, if the section has one for each of them; the page filters by these.
    """

    key: str
    title: str
    plot: go.Figure
    data: pd.DataFrame
    basis: Basis
    caption: str = ""
    scope: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        key: Name in links and files; lower case and hyphens, unique within a section and scope.
        title: What it shows.
        data: The numbers, as written to CSV.
        text: The same formatted as text, one row per row shown and column names as headings, for the page, Markdown
            and LaTeX. The page filters by the column ``method``, if there is one.
        basis: The data behind them.
        caption: How to read it; plain text.
        scope: As in :class:`Figure`.
        highlight: Positions of highlighted rows, such as published ones.
    """

    key: str
    title: str
    data: pd.DataFrame
    text: pd.DataFrame
    basis: Basis
    caption: str = ""
    scope: Mapping[str, str] = field(default_factory=dict)
    highlight: Sequence[int] = ()


@dataclass(frozen=True)
class Drawing:
    """A static SVG drawing.

    Args:
        key: Name in links and files.
        title: What it shows.
        svg: The drawing.
        data: What is drawn, as a table.
        basis: The data behind it.
        caption: How to read it; plain text.
        scope: As in :class:`Figure`.
    """

    key: str
    title: str
    svg: str
    data: pd.DataFrame
    basis: Basis
    caption: str = ""
    scope: Mapping[str, str] = field(default_factory=dict)


Block = Figure | Table | Drawing


@dataclass(frozen=True)
class Section:
    """A part of a report; a tab of the page.

    Args:
        key: Name in links; lower case and hyphens.
        title: Heading.
        blocks: Its figures, tables and drawings.
        intro: The questions it answers; plain text.
        missing: What it cannot show yet, and why; plain sentences.
    """

    key: str
    title: str
    blocks: tuple[Block, ...]
    intro: str = ""
    missing: tuple[str, ...] = ()
