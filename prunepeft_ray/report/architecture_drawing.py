"""An architecture drawn layer by layer, as a table for the terminal and as SVG."""

from __future__ import annotations

import textwrap
from itertools import accumulate
from xml.sax.saxutils import escape

from rich.table import Table
from rich.text import Text

from prunepeft_ray.analysis.summary import Summary, removed_in
from prunepeft_ray.architecture import KIND_TITLES, Architecture, Slot
from prunepeft_ray.errors import InputError
from prunepeft_ray.modules import MODULE_TYPES

COLOURS = {
    "FT": ("#56b4e9", "#1a1a1a"),
    "PA": ("#0072b2", "#ffffff"),
    "PF": ("#009e73", "#1a1a1a"),
    "PT": ("#cc79a7", "#1a1a1a"),
    "SA": ("#e69f00", "#1a1a1a"),
}
"""Colours of box and text: Okabe and Ito's colour-blind-safe palette; the contrast of text is above 5."""
INK, SOFT, EDGE, PANEL = "#1a1a1a", "#5f6368", "#8a9097", "#f1f3f5"
MARGIN, LEFT, GAP = 24, 168, 12


def kinds_of(architecture: Architecture) -> list[str]:
    """Return the slot kinds of an architecture, PA first."""
    return sorted({slot.kind for slot in architecture.slots})


def kind_title(kind: str) -> str:
    """Return the column heading of a slot kind."""
    return f"{kind}: {KIND_TITLES[kind]}"


def module_text(found: Architecture, slot: Slot) -> str:
    """Return the type and size of the module that fills a slot."""
    module = found[slot]
    return f"{MODULE_TYPES[module.type].label} {module.size}"


def pruned_text(slot: Slot, rounds: dict[Slot, int]) -> str:
    """Return the round in which a slot was pruned, as text; only ``"pruned"`` if the round is unknown."""
    return f"round {rounds[slot]}" if slot in rounds else "pruned"


def layers_of_blocks(blocks: tuple[int, ...]) -> list[range]:
    """Return the layers of each block, given the numbers of layers in the blocks."""
    return [range(end - size, end) for size, end in zip(blocks, accumulate(blocks), strict=True)]


def architecture_table(summary: Summary) -> Table:
    """Draw the architecture found as a table: one row per layer, the top layer first.

    Args:
        summary: Summary of a finished run.
    """
    assert summary.found is not None
    assert summary.supernet is not None
    kinds, rounds = kinds_of(summary.supernet), removed_in(summary)
    table = Table(
        "block", "layer", *(kind_title(kind) for kind in kinds), title="architecture found", caption="· pruned"
    )
    for block, layers in reversed(list(enumerate(layers_of_blocks(summary.blocks)))):
        for layer in reversed(layers):
            slots = [Slot(layer, kind) for kind in kinds]
            cells = [
                Text(module_text(summary.found, slot), "bold")
                if slot in summary.found
                else Text(f"· {pruned_text(slot, rounds)}", "dim")
                for slot in slots
            ]
            table.add_row(str(block) if layer == layers[-1] else "", str(layer), *cells)
        table.add_section()
    return table


def summary_svg(summary: Summary) -> str:
    """Draw the architecture found as a standalone SVG, the input at the bottom.

    Raises:
        InputError: If the run has not finished.
    """
    if summary.found is None or summary.supernet is None:
        raise InputError(f"{summary.folder} has not finished, so there is no architecture to draw yet")
    kinds, rounds = kinds_of(summary.supernet), removed_in(summary)
    row = 32 if sum(summary.blocks) <= 12 else 24
    cell = 168 if len(kinds) > 1 else 280
    width = LEFT + len(kinds) * (cell + GAP) + MARGIN
    title = f"PEFT architecture for {_short(summary.task)} on {_short(summary.model)}"
    parts, y = [], 20
    for line in textwrap.wrap(title, (width - 2 * MARGIN) // 11, break_on_hyphens=False):
        y += 22
        parts.append(_text(MARGIN, y, line, 16, weight="bold"))
    for line in _facts(summary):
        y += 20
        parts.append(_text(MARGIN, y, line, 13, fill=SOFT))
    y += 40
    for column, kind in enumerate(kinds):
        middle = LEFT + column * (cell + GAP) + cell / 2
        parts.append(_text(middle, y, kind_title(kind), 13, weight="bold", anchor="middle"))
    y += 12
    for block, layers in reversed(list(enumerate(layers_of_blocks(summary.blocks)))):
        height = row * len(layers) + 8
        parts.append(
            f'<rect x="{MARGIN}" y="{y}" width="{width - 2 * MARGIN}" height="{height}" rx="8" fill="{PANEL}"/>'
        )
        parts.append(_text(MARGIN + 12, y + height / 2 + 4, f"block {block}", 12, fill=SOFT))
        for place, layer in enumerate(reversed(layers)):
            top = y + 4 + row * place
            parts.append(_text(LEFT - 20, top + row / 2 + 4, f"layer {layer}", 12, anchor="end"))
            for column, kind in enumerate(kinds):
                slot = Slot(layer, kind)
                kept = slot in summary.found
                label = module_text(summary.found, slot) if kept else pruned_text(slot, rounds)
                parts.append(_slot(LEFT + column * (cell + GAP), top + 3, cell, row - 6, slot, kept, label))
        y += height + 6
    for line in ("Filled: kept, with size. Dashed: pruned, with the round.", "Layer 0 is next to the input."):
        y += 18
        parts.append(_text(MARGIN, y, line, 12, fill=SOFT))
    y += MARGIN
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" '
        'font-family="Helvetica, Arial, \'DejaVu Sans\', sans-serif" role="img">',
        f"<title>{_clean(title)}</title>",
        f'<rect width="{width}" height="{y}" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def _facts(summary: Summary) -> list[str]:
    lines = [f"{summary.parameters:,} parameters: {summary.percent:.2f} % of the backbone, budget {summary.budget}"]
    metric, splits = summary.metric or "", (("dev", summary.dev), ("test", summary.test))
    shown = [f"{name} {values[metric]:.4f}" for name, values in splits if metric in values]
    if shown:
        lines.append(f"{metric}: {', '.join(shown)} (one run, seed {summary.seed})")
    return lines


def _short(name: str) -> str:
    """The last part of a Hub id, a path or ``packaged:NAME``."""
    return name.rstrip("/").split("/")[-1].removeprefix("packaged:")


def _clean(text: str) -> str:
    return escape("".join(c if c.isprintable() else " " for c in text))


def _text(
    x: float, y: float, text: str, size: int, *, weight: str = "normal", anchor: str = "start", fill: str = INK
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{fill}">'
        f"{_clean(text)}</text>"
    )


def _slot(x: float, y: float, width: float, height: float, slot: Slot, kept: bool, text: str) -> str:
    box, ink = COLOURS[slot.kind]
    style = f'fill="{box}"' if kept else f'fill="none" stroke="{EDGE}" stroke-dasharray="4 3"'
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" {style}/>'
    label = _text(x + width / 2, y + height / 2 + 4.5, text, 12, anchor="middle", fill=ink if kept else SOFT)
    return f'<g id="{slot}">{shape}{label}</g>'
