"""Everything that commands print goes through here: verbatim, without markup, with control characters made visible."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from prunepeft_ray.text import visible, visible_line

_LEFT_BY_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


class Terminal(Console):
    """A rich console that treats no text as markup, and lets no control sequence in a text reach the terminal.

    Args:
        settings: Passed to ``rich.console.Console``.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Escape a string before it is measured, so that columns fit."""
        return super().render_str(visible(text), **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape all text; rich's own control sequences are kept."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def tell(self, text: str, style: str | Style | None = None) -> None:
        """Print one line, of any length, without wrapping it."""
        self.print(visible_line(text), style=style, soft_wrap=True)


def say(line: str) -> None:
    """Print one line on standard error."""
    Terminal(stderr=True).tell(line)


def put(text: str) -> None:
    """Print lines on standard output."""
    print(visible(text), flush=True)


def put_log(text: str) -> None:
    """Print a piece of a log without its colours."""
    put(_COLOUR.sub("", text))


def put_json(data: Any, indent: int | None = 2) -> None:
    """Print JSON; NaN and infinity, which JSON lacks, become null.

    Args:
        data: What to print; values of types unknown to JSON are printed as strings.
        indent: Spaces per level; None for a single line.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    whole = encoding.lower().startswith("utf")
    text = json.dumps(_finite(data), indent=indent, default=str, ensure_ascii=indent is not None or not whole)
    print(_LEFT_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def complain(message: str) -> None:
    """Print an error as one line on standard error."""
    print(f"error: {visible_line(message)}", file=sys.stderr)
