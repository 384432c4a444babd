"""An architecture drawn layer by layer, as a table for the terminal and as SVG."""

from __future__ import annotations

from xml.sax.saxutils import escape

from rich.table import Table

from prunepeft_ray.architecture import Architecture, Slot
from prunepeft_ray.modules import MODULE_TYPES
from prunepeft_ray.report.summary import Summary, removed_in

COLOURS = {"PA": "#0072b2", "SA": "#d55e00"}
"""Okabe and Ito's blue and vermilion, which colour-blind people tell apart."""
KIND_TITLES = {"PA": "PA: query, value", "SA": "SA: serial"}
ROW, CELL, LEFT, TOP = 34, 190, 92, 96


def kinds_of(architecture: Architecture) -> list[str]:
    """The slot kinds of an architecture, PA first."""
    return sorted({slot.kind for slot in architecture.slots})


def cell_text(found: Architecture, slot: Slot, rounds: dict[Slot, int]) -> str:
    """What stands in a slot's cell: module and size, or when the slot was pruned."""
    if slot in found:
        module = found[slot]
        return f"{MODULE_TYPES[module.type].label} {module.size}"
    return f"· round {rounds[slot]}" if slot in rounds else "·"


def block_of_layer(blocks: tuple[int, ...]) -> list[int]:
    """The block of every layer, from the blocks' sizes."""
    return [block for block, size in enumerate(blocks) for _ in range(size)]


def architecture_table(summary: Summary) -> Table:
    """Draw the architecture found as a table: one row per layer, the top layer first.

    Args:
        summary: A finished run's summary.
    """
    assert summary.found is not None
    assert summary.supernet is not None
    kinds, rounds = kinds_of(summary.supernet), removed_in(summary)
    table = Table("layer", "block", *(KIND_TITLES[kind] for kind in kinds), title="architecture found")
    for layer, block in reversed(list(enumerate(block_of_layer(summary.blocks)))):
        cells = [cell_text(summary.found, Slot(layer, kind), rounds) for kind in kinds]
        styled = [f"[dim]{cell}[/dim]" if cell.startswith("·") else f"[bold]{cell}[/bold]" for cell in cells]
        table.add_row(str(layer), str(block), *styled)
    return table


def summary_svg(summary: Summary) -> str:
    """Draw the architecture found as a standalone SVG picture.

    Args:
        summary: A run's summary.

    Raises:
        InputError: If the run has not finished.
    """
    from prunepeft_ray.errors import InputError

    if summary.found is None or summary.supernet is None:
        raise InputError(f"{summary.folder} has not finished: there is no architecture to draw yet")
    kinds, rounds = kinds_of(summary.supernet), removed_in(summary)
    blocks = block_of_layer(summary.blocks)
    width, height = LEFT + CELL * len(kinds) + 24, TOP + ROW * len(blocks) + 56
    title = f"PEFT architecture for {summary.task} on {summary.model}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(16, 28, title, 16, "bold"),
        _text(16, 50, _size_line(summary), 12),
    ]
    for column, kind in enumerate(kinds):
        parts.append(_text(LEFT + CELL * column + CELL / 2, TOP - 10, KIND_TITLES[kind], 12, "bold", anchor="middle"))
    for layer, block in enumerate(blocks):
        y = TOP + ROW * (len(blocks) - 1 - layer)
        if block % 2:
            parts.append(f'<rect x="8" y="{y}" width="{width - 16}" height="{ROW}" fill="#f2f2f2"/>')
        parts.append(_text(16, y + 22, f"layer {layer}", 12))
        for column, kind in enumerate(kinds):
            slot = Slot(layer, kind)
            parts.append(
                _cell(LEFT + CELL * column, y, slot, slot in summary.found, cell_text(summary.found, slot, rounds))
            )
    parts += [
        _text(16, height - 32, "filled: kept; dashed: pruned, with the round; shading: blocks of layers", 11),
        _text(16, height - 14, _metric_line(summary), 12, "bold"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _size_line(summary: Summary) -> str:
    return f"{summary.parameters:,} parameters, {summary.percent:.2f} % of the backbone; budget {summary.budget}"


def _metric_line(summary: Summary) -> str:
    metric = summary.metric or ""
    shown = [
        f"{name} {values[metric]:.4f}" for name, values in (("dev", summary.dev), ("test", summary.test)) if values
    ]
    return f"{metric}: {', '.join(shown)} (1 run, seed {summary.seed})"


def _text(
    x: float, y: float, text: str, size: int, weight: str = "normal", anchor: str = "start", fill: str = "#222"
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{fill}">'
        f"{escape(text)}</text>"
    )


def _cell(x: float, y: float, slot: Slot, kept: bool, text: str) -> str:
    colour = COLOURS[slot.kind]
    style = f'fill="{colour}"' if kept else f'fill="none" stroke="{colour}" stroke-dasharray="4 3" stroke-opacity="0.6"'
    box = f'<rect x="{x + 6}" y="{y + 4}" width="{CELL - 12}" height="{ROW - 8}" rx="5" {style}/>'
    label = _text(x + CELL / 2, y + 22, text, 12, anchor="middle", fill="white" if kept else "#555")
    return f'<g id="{slot}">{box}{label}</g>'
