"""What was pruned, by criterion, partition, layer, block and task (paper, Figs. 1 and 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prunepeft_ray.analysis.charges import CELL
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.analysis.searches import decided, seen_in
from prunepeft_ray.report.basis import basis_of_searches
from prunepeft_ray.report.blocks import Basis, Block, Figure, Section, Table
from prunepeft_ray.report.heatmaps import Panel, share_text, stacked
from prunepeft_ray.report.labels import short_names
from prunepeft_ray.report.style import INK, apply_style, style_of
from prunepeft_ray.text import file_stem

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PUBLISHED_BLOCKS = (0.069, 0.034, 0.025, 0.049)
"""Pruning frequency by block (paper, Fig. 3a)."""
PUBLISHED_LAYERS = 24
"""Layers of RoBERTa-large. Weighted by the blocks of the released code, of 5, 7, 7 and 5 layers, the published
frequencies sum to 1.00, so they are taken as the share of all removals per layer."""
PUBLISHED = "published (paper, Fig. 3a)"
TRAINING = "training only"

_INTRO = (
    "Which slots each criterion removed in the warm-up, the partitions it was assigned as a result, and the slots "
    "removed in the pruning rounds, by layer, block and task."
)
_SHARES = "The share of a criterion's removals in each partition, as in Fig. 1b of the paper."
_LOSSES = "The held-out loss after a criterion's removals in one partition; lower is better."
_NO_DECISIONS = "everything: no search has pruned anything yet"


def pruning_section(results: Results) -> Section:
    """Show the removals of warm-ups and pruning rounds.

    Args:
        results: A run or a study, finished or not.
    """
    warmup, rounds = decided(results, "warmup"), decided(results, "round")
    blocks: list[Block] = []
    for cell, turns in warmup.groupby(list(CELL)):
        blocks += _warmup_figures(results, cell, turns)
    for (model, task), of_place in seen_in(rounds).groupby(["model", "task"]):
        blocks += _frequency_blocks(results, str(model), str(task), of_place)
    for (model, method), of_method in seen_in(rounds).groupby(["model", "method"]):
        blocks.append(_by_task(results, str(model), str(method), of_method))
    missing = [_NO_DECISIONS] if warmup.empty and rounds.empty else []
    if warmup.empty and len(rounds):
        missing.append("pruning ratios by criterion: no search had a warm-up")
    if rounds.empty and len(warmup):
        missing.append("pruning frequencies: no search has finished a round yet")
    return Section("pruning", "Pruning", tuple(blocks), _INTRO, tuple(missing))


def _part(frame: pd.DataFrame, **names: str) -> pd.DataFrame:
    """Select the rows with these values."""
    for name, value in names.items():
        frame = frame[frame[name] == value]
    return frame.reset_index(drop=True)


def _warmup_figures(results: Results, cell: Iterable[Any], turns: pd.DataFrame) -> Iterator[Figure]:
    names = dict(zip(CELL, map(str, cell), strict=True))
    scope, method = {"model": names["model"], "task": names["task"]}, names["method"]
    ratios, tendencies = _part(results["pruning_ratios"], **names), _part(results["tendencies"], **names)
    by_loss = bool(tendencies.loss.notna().any())
    marks = (
        ["the strategy is learnt again before later rounds; all warm-ups are counted"]
        if (tendencies.warm_ups > 1).any()
        else []
    )
    if by_loss:
        marks.append("in this warm-up, each criterion removes slots from one partition at a time")
    chose = ratios.groupby("criterion").removed.sum()
    marks += [f"{name} abstained: it gave every slot the same value" for name in chose.index[chose == 0]]
    basis = basis_of_searches(results, turns, TRAINING, *marks)
    yield Figure(
        f"pruning-ratio-{file_stem(method)}",
        f"Pruning ratio by criterion, kind and layer: {method}",
        _ratio_plot(ratios, method),
        ratios,
        basis,
        "The share of warm-up turns in which a criterion removed a slot, among those in which the slot was present. "
        "Grey with a cross: no such slot. As Fig. 1a of the paper.",
        scope,
    )
    split = "a held-out part of the subset" if by_loss else TRAINING
    yield Figure(
        f"tendencies-{file_stem(method)}",
        f"Criteria by partition: {method}",
        _tendency_plot(tendencies, method, by_loss),
        tendencies,
        Basis(basis.n, basis.seeds, basis.fidelity, split, basis.marks),
        (_LOSSES if by_loss else _SHARES)
        + " ● the criterion was assigned the partition in all rounds, ◐ in some. Blocks are numbered from the input.",
        scope,
    )


def _ratio_plot(ratios: pd.DataFrame, method: str) -> go.Figure:
    criteria = sorted(ratios.criterion.unique(), reverse=True)
    layers = range(int(ratios.layer.max()) + 1)
    panels = []
    for kind, of_kind in ratios.groupby("kind"):
        values = of_kind.pivot(index="criterion", columns="layer", values="ratio").reindex(criteria, columns=layers)
        words = of_kind.assign(
            hover=of_kind.criterion
            + ", "
            + of_kind.slot
            + ": removed in "
            + of_kind.removed.astype(str)
            + " of "
            + of_kind.turns.astype(str)
            + " turns"
        )
        hover = words.pivot(index="criterion", columns="layer", values="hover").reindex(criteria, columns=layers)
        panels.append(Panel(str(kind), values, values.map(share_text), hover))
    return stacked(panels, x="layer", scale="removed / present", method=method)


def _tendency_plot(tendencies: pd.DataFrame, method: str, by_loss: bool) -> go.Figure:
    number = "loss" if by_loss else "share"
    order = tendencies.sort_values(["kind", "block"], ascending=[False, True])
    order = order.assign(
        sign=order.assigned.map(lambda share: "" if not share > 0 else " ●" if share == 1 else " ◐"),
        hover=order.criterion
        + " in "
        + order.partition
        + ": removed "
        + order.removed.astype(str)
        + "; assigned to it in "
        + order.assigned.map("{:.0%}".format).where(order.assigned.notna(), "no")
        + " of rounds so far",
    )
    rows, columns = order.partition.unique(), sorted(order.criterion.unique())
    values, signs, hover = (
        order.pivot(index="partition", columns="criterion", values=name).reindex(rows, columns=columns)
        for name in (number, "sign", "hover")
    )
    text = values.map(lambda value: f"{value:.3f}" if by_loss else share_text(value)) + signs
    low, high = (float(values.min().min()), float(values.max().max())) if by_loss else (0.0, 1.0)
    return stacked(
        [Panel("", values, text, hover)],
        x="criterion",
        scale="held-out loss" if by_loss else "share of the criterion's removals",
        limits=(low, high),
        dark_is_low=by_loss,
        method=method,
    )


def _spread(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Removals by method and place, and their ratio to the same number spread evenly over all slots."""
    counts = frame.groupby(["method", *by]).agg(
        there=("there", "sum"), removed=("removed", "sum"), share=("share", "sum"), layers=("layer", "nunique")
    )
    found = counts.reset_index()
    found["frequency"] = found.removed / found.there
    found["share_per_layer"] = found.share / found.layers
    whole = found.groupby("method")
    found["relative"] = found.frequency / (whole.removed.transform("sum") / whole.there.transform("sum"))
    return found.assign(source="ours")


def _frequency_blocks(results: Results, model: str, task: str, rounds: pd.DataFrame) -> Iterator[Block]:
    import pandas as pd

    scope = {"model": model, "task": task}
    frame = _part(results["frequencies"], **scope)
    by_layer, by_block = _spread(frame, ["layer"]), _spread(frame, ["block"])
    with_blocks = by_block[by_block.groupby("method").block.transform("nunique") > 1]
    published = _published() if (with_blocks.block.max() == len(PUBLISHED_BLOCKS) - 1) else _published().iloc[:0]
    with_blocks = pd.concat([with_blocks, published], ignore_index=True)
    basis = basis_of_searches(results, rounds, TRAINING)
    yield Figure(
        "frequency-by-layer",
        "Pruning frequency by layer",
        _layer_plot(by_layer),
        by_layer.assign(model=model, task=task),
        basis,
        "Slots removed by pruning rounds, as a share of all slots of the layer in the supernets. Layer 0 is next to "
        "the input.",
        scope,
    )
    if with_blocks.empty:
        return
    note = (
        "published values: RoBERTa-large (24 layers) on GLUE, single runs; taken as the share of removals per layer",
    )
    basis = basis_of_searches(results, rounds, TRAINING, *(note if len(published) else ()))
    yield Figure(
        "frequency-by-block",
        "Pruning frequency by block",
        _block_plot(with_blocks),
        with_blocks.assign(model=model, task=task),
        basis,
        "Removals of the slots of a block, relative to the same number spread evenly over all slots: above 1, the "
        "block is pruned more than average. Block 0 is next to the input. Hollow diamonds: published values.",
        scope,
    )
    yield Table(
        "block-frequency",
        "Pruning frequency by block, ours and published",
        with_blocks.assign(model=model, task=task),
        _block_text(with_blocks),
        basis,
        "Mean share of all removals per layer, as in Fig. 3a of the paper; in parentheses, relative to an even spread "
        "(1).",
        scope,
        highlight=[place for place, name in enumerate(_block_text(with_blocks).method) if name == PUBLISHED],
    )


def _published() -> pd.DataFrame:
    import pandas as pd

    shares = pd.Series(PUBLISHED_BLOCKS)
    return pd.DataFrame(
        {
            "method": PUBLISHED,
            "block": range(len(shares)),
            "share_per_layer": shares,
            "relative": shares * PUBLISHED_LAYERS,
            "source": "published",
        }
    )


def _block_text(blocks: pd.DataFrame) -> pd.DataFrame:
    words = blocks.assign(
        text=blocks.share_per_layer.map("{:.3f}".format) + " (" + blocks.relative.map("{:.2f}".format) + ")",
        name=blocks.block.map("block {}".format),
    )
    wide = words.pivot(index="method", columns="name", values="text").fillna("")
    order = sorted(wide.index, key=lambda name: (name == PUBLISHED, name != "prunepeft", name))
    text: pd.DataFrame = wide.loc[order].rename_axis(columns=None).reset_index()
    return text


def _layer_plot(by_layer: pd.DataFrame) -> go.Figure:
    import plotly.graph_objects as go

    figure, styles = go.Figure(), style_of(by_layer.method)
    for method, rows in by_layer.groupby("method"):
        words = rows.removed.astype(str) + " of " + rows.there.astype(str)
        figure.add_trace(_line(str(method), rows.layer, rows.frequency, words, "layer", styles))
    apply_style(figure, height=330 + 18 * len(styles), x="layer", y="removed / present")
    figure.update_yaxes(rangemode="tozero")
    return figure.update_xaxes(dtick=1 if by_layer.layer.max() < 16 else 4)


def _block_plot(blocks: pd.DataFrame) -> go.Figure:
    import plotly.graph_objects as go

    figure, styles = go.Figure(), style_of(blocks.method[blocks.source == "ours"])
    for method, rows in blocks[blocks.source == "ours"].groupby("method"):
        words = rows.removed.map("{:.0f}".format) + " of " + rows.there.map("{:.0f}".format)
        figure.add_trace(_line(str(method), rows.block, rows.relative, words, "block", styles))
    published = blocks[blocks.source == "published"]
    figure.add_trace(
        go.Scatter(
            x=published.block,
            y=published.relative,
            name=PUBLISHED,
            mode="markers",
            marker={"symbol": "diamond-open", "size": 13, "color": INK, "line": {"width": 2}},
            customdata=published.share_per_layer,
            hovertemplate="block %{x}: %{customdata} of all removals per layer, %{y:.2f} relative to an even spread",
        )
    )
    figure.add_hline(y=1, line={"color": INK, "width": 1, "dash": "dot"})
    apply_style(figure, height=330 + 18 * (1 + len(styles)), x="block", y="relative to an even spread")
    figure.update_yaxes(rangemode="tozero")
    return figure.update_xaxes(dtick=1)


def _line(
    method: str,
    x: pd.Series[int],
    y: pd.Series[float],
    words: pd.Series[str],
    place: str,
    styles: Mapping[str, tuple[str, str, str]],
) -> go.Scatter:
    import plotly.graph_objects as go

    colour, symbol, dash = styles[method]
    return go.Scatter(
        x=x,
        y=y,
        name=method,
        mode="lines+markers",
        marker={"symbol": symbol, "size": 8, "color": colour},
        line={"color": colour, "dash": dash},
        customdata=words,
        hovertemplate=place + " %{x}: %{y:.2f} (%{customdata} slots)",
        meta={"method": method},
    )


def _by_task(results: Results, model: str, method: str, rounds: pd.DataFrame) -> Figure:
    frame = _part(results["frequencies"], model=model, method=method)
    tasks = short_names(sorted(frame.task.unique(), reverse=True))
    layers = range(int(frame.layer.max()) + 1)
    panels = []
    for kind, of_kind in frame.groupby("kind"):
        words = of_kind.assign(
            hover=of_kind.slot
            + ": removed in "
            + of_kind.removed.astype(str)
            + " of "
            + of_kind.there.astype(str)
            + " searches on "
            + of_kind.task.map(tasks)
        )
        values, hover = (
            words.pivot(index="task", columns="layer", values=name).reindex(list(tasks), columns=layers).rename(tasks)
            for name in ("frequency", "hover")
        )
        panels.append(Panel(str(kind), values, values.map(share_text), hover))
    return Figure(
        f"frequency-by-task-{file_stem(method)}",
        f"Pruning frequency by task, kind and layer: {method}",
        stacked(panels, x="layer", scale="removed / searches", method=method),
        frame,
        basis_of_searches(results, rounds, TRAINING),
        "The share of searches whose pruning rounds removed the slot. Grey with a cross: no such slot. As Fig. 3b of "
        "the paper.",
        {"model": model},
    )
