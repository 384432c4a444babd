"""The report as a self-contained HTML page."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from prunepeft_ray.report.blocks import Block, Figure, Section, Table
from prunepeft_ray.report.build import Report
from prunepeft_ray.report.csv_text import to_csv
from prunepeft_ray.text import file_stem

EMBEDDED_ROWS = 2000
"""Maximum number of rows embedded in the page; longer data are linked as files beside it."""
FILTERS = ("run", "model", "task")
_OURS = re.compile(r"&lt;(/?(?:b|extra)|br)&gt;")
_IN_SCRIPTS = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}
_NUMBER = re.compile(r"^[+\-−]?[\d,]*\.?\d+([eE][+-]?\d+)?(?=$|[\s%(])")


@dataclass(frozen=True)
class _Shown:
    """A block as the template needs it."""

    id: str
    kind: str
    block: Block
    rows: Sequence[dict[str, Any]]
    csv: str | None
    file: str


def page_html(report: Report, files: str, refresh: int | None = None) -> str:
    """Render a report as a page with interactive figures, tabs, filters and a link to the data of every figure.

    Args:
        report: The report.
        files: Folder of the data files, relative to the page; for data too long to embed.
        refresh: Seconds after which the page reloads itself, for a run that is being watched.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    blocks = {section.key: list(_shown(section, files)) for section in report.sections}
    every = [shown for found in blocks.values() for shown in found]
    plots = {shown.id: shown.block.plot.to_plotly_json() for shown in every if isinstance(shown.block, Figure)}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_resource("page.html.j2"))
    return template.render(
        report=report,
        refresh=refresh,
        choices=_choices(every),
        blocks=blocks,
        plots=_script(_as_written(json.loads(_json_of(plots)))),
        csvs=_script({shown.id: shown.csv for shown in every if shown.csv is not None}),
        css=_markup(_resource("page.css")),
        js=_resource("page.js"),
        plotly=get_plotlyjs(),
    )


def block_id(section: Section, block: Block) -> str:
    """Return the name of a block, unique within a report: used in links, and as the stem of its files."""
    place = (file_stem(*block.scope.values()),) if block.scope else ()
    return "-".join([section.key, block.key, *place])


def _shown(section: Section, files: str) -> Iterator[_Shown]:
    for block in section.blocks:
        name = block_id(section, block)
        yield _Shown(
            id=name,
            kind=type(block).__name__.lower(),
            block=block,
            rows=_rows(block) if isinstance(block, Table) else (),
            csv=to_csv(block.data) if len(block.data) <= EMBEDDED_ROWS else None,
            file=f"{files}/{name}.csv",
        )


def _rows(table: Table) -> list[dict[str, Any]]:
    numeric = [_is_numeric([str(cell) for cell in table.text[name]]) for name in table.text.columns]
    methods = list(table.text.method) if "method" in table.text.columns else [None] * len(table.text)
    return [
        {
            "method": methods[place],
            "apart": place in table.highlight,
            "cells": [{"text": cell, "number": number} for cell, number in zip(cells, numeric, strict=True)],
        }
        for place, cells in enumerate(table.text.itertuples(index=False, name=None))
    ]


def _is_numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell not in ("", "–")]
    return bool(filled) and all(_NUMBER.match(cell) for cell in filled)


def _choices(blocks: Sequence[_Shown]) -> dict[str, list[str]]:
    """The options of each filter; filters with a single option are left out."""
    found = {
        name: sorted({shown.block.scope[name] for shown in blocks if name in shown.block.scope}) for name in FILTERS
    }
    methods = {row["method"] for shown in blocks for row in shown.rows if row["method"]}
    for shown in blocks:
        if isinstance(shown.block, Figure):
            methods |= {trace.meta["method"] for trace in shown.block.plot.data if (trace.meta or {}).get("method")}
    found["method"] = sorted(methods, key=lambda name: (name != "prunepeft", name))
    return {name: values for name, values in found.items() if len(values) > 1}


def _json_of(plots: dict[str, Any]) -> str:
    from plotly.io.json import to_json_plotly

    return str(to_json_plotly(plots))


def _as_written(value: Any) -> Any:
    """Escape everything that Plotly would read as HTML, except our own markup."""
    if isinstance(value, dict):
        # the page filters by meta, which is compared and not shown
        return {key: inner if key == "meta" else _as_written(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_written(inner) for inner in value]
    return _OURS.sub(r"<\1>", html.escape(value, quote=False)) if isinstance(value, str) else value


def _script(data: Any) -> str:
    """Format data as ASCII JSON that is safe in a script element: nothing in it can close or comment out anything."""
    return json.dumps(data).translate(_IN_SCRIPTS)


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


def _resource(name: str) -> str:
    return resources.files("prunepeft_ray.report").joinpath("templates", name).read_text(encoding="utf-8")
