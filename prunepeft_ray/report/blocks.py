"""What a report is made of: sections of figures and tables, each saying what its numbers rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Basis:
    """What the numbers of a figure or a table rest on; every one of them says it.

    Args:
        n: How many of what, such as ``"2 searches per method, 4 retrainings each"``.
        seeds: Which seeds, such as ``"0, 1"``.
        fidelity: How much was trained, such as ``"200 examples, 2 epochs"``.
        split: What was measured on: dev, test, a held-out part of the subset, or training alone.
        marks: What else must be known: choices by an oracle, unfinished jobs, searches that are missing.
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
        key: Names it in links and files; lower case and hyphens, unique within a section and scope.
        title: What it shows.
        plot: The figure. A trace's ``meta`` may hold ``{"method": ...}``, by which the page filters.
        data: The numbers behind it.
        basis: What they rest on.
        caption: How to read it; plain text.
        scope: What it is about where a section has it several times: ``run``, ``model`` and ``task``, by which the
            page filters.
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
        key: Names it in links and files; lower case and hyphens, unique within a section and scope.
        title: What it shows.
        data: The numbers; what CSV gets.
        text: The same as text for reading, one row per row shown, column names as headings; what the page, Markdown
            and LaTeX get. A column named ``method`` is what the page filters by.
        basis: What they rest on.
        caption: How to read it; plain text.
        scope: As in :class:`Figure`.
        highlight: Positions of rows to set apart, such as published ones.
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
    """A picture in SVG that needs no interaction.

    Args:
        key: Names it in links and files.
        title: What it shows.
        svg: The picture.
        data: The facts behind it.
        basis: What they rest on.
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
        key: Names it in links; lower case and hyphens.
        title: Its heading.
        blocks: What is in it.
        intro: What it answers; plain text.
        missing: What it cannot show yet, and why; plain sentences.
    """

    key: str
    title: str
    blocks: tuple[Block, ...]
    intro: str = ""
    missing: tuple[str, ...] = ()
