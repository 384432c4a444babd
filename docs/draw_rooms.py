"""Draw which rooms of the package import which: ``python docs/draw_rooms.py`` writes ``docs/rooms.svg``.

A room stands above all that it imports. An arrow that others imply is left out: where ``cli`` imports ``execution``
and ``execution`` imports ``results``, there is none from ``cli`` to ``results``. So are arrows to the bottom row,
which anything may import.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "prunepeft_ray"
PICTURE = Path(__file__).with_name("rooms.svg")
ABOVE_ALL = {"__init__", "__main__", "api"}
"""Files that only re-export what users import."""

WIDTH, BOX, ROW, GAP = 920, (112, 30), 72, 18


def imported_rooms(package: Path) -> dict[str, set[str]]:
    """Return the rooms that each room imports, at any depth of its code.

    Args:
        package: The package's folder.
    """
    found: dict[str, set[str]] = {}
    for file in sorted(package.rglob("*.py")):
        room = file.relative_to(package).with_suffix("").parts[0]
        if room in ABOVE_ALL:
            continue
        names = [node.module for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if _is_import(node)]
        inside = {name.split(".")[1] for name in names if name and name.startswith(f"{package.name}.")}
        found.setdefault(room, set()).update(inside - {room} - ABOVE_ALL)
    return found


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and not node.level


def heights(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Return how many levels of rooms lie below each room.

    Args:
        graph: The rooms that each room imports.

    Raises:
        graphlib.CycleError: If imports go in a circle.
    """
    found: dict[str, int] = {}
    for room in TopologicalSorter(graph).static_order():
        found[room] = max((found[below] + 1 for below in graph[room]), default=0)
    return found


def arrows(graph: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that no others imply, in order.

    Args:
        graph: The rooms that each room imports; no circle.
    """
    reach: dict[str, set[str]] = {}
    for room in TopologicalSorter(graph).static_order():
        reach[room] = graph[room].union(*(reach[below] for below in graph[room]))
    return sorted(
        (room, below)
        for room, inside in graph.items()
        for below in inside
        if not any(below in reach[other] for other in inside - {below})
    )


def draw(graph: Mapping[str, set[str]]) -> str:
    """Return the picture as SVG.

    Args:
        graph: The rooms that each room imports.
    """
    levels = heights(graph)
    top = max(levels.values())
    places: dict[str, tuple[float, float]] = {}
    for level in range(top + 1):
        row = sorted(room for room in levels if levels[room] == level)
        left = (WIDTH - len(row) * (BOX[0] + GAP) + GAP) / 2
        for i, room in enumerate(row):
            places[room] = (left + i * (BOX[0] + GAP), GAP + (top - level) * ROW)
    lines = [_arrow(places[above], places[below]) for above, below in arrows(graph) if levels[below]]
    boxes = [_box(room, *places[room]) for room in sorted(places)]
    height = 2 * GAP + top * ROW + BOX[1]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
            "<title>The rooms of prunepeft_ray, each above those that it imports</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
            '<path d="M0 0L8 4L0 8z" fill="#667"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x0, y0 = start[0] + BOX[0] / 2, start[1] + BOX[1]
    x1, y1 = end[0] + BOX[0] / 2, end[1]
    bend = min(ROW, (y1 - y0) / 2)
    path = f"M{x0:g} {y0:g}C{x0:g} {y0 + bend:g} {x1:g} {y1 - bend:g} {x1:g} {y1 - 1:g}"
    return f'<path d="{path}" fill="none" stroke="#99a" marker-end="url(#tip)"/>'


def _box(room: str, x: float, y: float) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{BOX[0]}" height="{BOX[1]}" rx="5" fill="#eef3fb" stroke="#4a6fa5"/>'
        f'<text x="{x + BOX[0] / 2:g}" y="{y + 20:g}" text-anchor="middle" font-size="14">{escape(room)}</text>'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(imported_rooms(PACKAGE)), encoding="utf-8")
