"""The picture of the rooms in docs/ is the one that the imports give."""

import runpy
from graphlib import CycleError
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
rooms = runpy.run_path(str(DOCS / "draw_rooms.py"))


def test_the_committed_picture_is_drawn_from_the_imports():
    drawn = rooms["draw"](rooms["imported_rooms"](rooms["PACKAGE"]))
    assert (DOCS / "rooms.svg").read_text(encoding="utf-8") == drawn, "run: python docs/draw_rooms.py"


def test_every_import_leads_down():
    graph = rooms["imported_rooms"](rooms["PACKAGE"])
    heights = rooms["heights"](graph)
    assert all(heights[below] < heights[room] for room, inside in graph.items() for below in inside)


def test_imports_inside_functions_count(tmp_path):
    for file, text in {
        "top.py": "def f():\n    from package.low import g\n",
        "low/__init__.py": "from package.low.deep import g\n",
        "low/deep.py": "import os\n",
    }.items():
        path = tmp_path / "package" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert rooms["imported_rooms"](tmp_path / "package") == {"top": {"low"}, "low": set()}


def test_arrows_that_others_imply_are_left_out():
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert rooms["heights"](graph) == {"c": 0, "b": 1, "a": 2}
    assert rooms["arrows"](graph) == [("a", "b"), ("b", "c")]


def test_a_circle_is_refused():
    with pytest.raises(CycleError):
        rooms["draw"]({"a": {"b"}, "b": {"a"}})
