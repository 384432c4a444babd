"""How the cost of a training job grows with examples, length, depth of gradients, slots and evaluation.

One of these varies at a time, around a job of 48 examples of 64 tokens in three batches, with six of 24 slots filled,
on MiniLM. Times are CPU seconds of one thread, the lower of two passes over all points. The physical limit is what
``torch.nn.functional.linear`` reaches in between, on matrices of the shapes of the FFN; the last column is the share of
it that a job reaches, by the operations that torch counts in training. ``python -m benchmarks.growth docs/growth.svg``
also draws the points, with Plotly in Chromium.
"""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.backbones import Backbone, load_backbone
from prunepeft_ray.config import ModulesConfig, TaskConfig, TrainingConfig
from prunepeft_ray.jobs import TrainJob, TrainResult
from prunepeft_ray.report.style import COLOURS, apply_style
from prunepeft_ray.tasks import TaskData, load_task
from prunepeft_ray.training import EncodedTask, SoloGroup, encode_task, train

MODEL, LAYERS, BATCH, EXAMPLES, LENGTH, PASSES = "packaged:minilm", 6, 16, 48, 64, 2
KINDS = {
    "PA": Module("lora", 8),
    "PF": Module("parallel", 16),
    "PT": Module("prefix", 30),
    "SA": Module("pfeiffer", 16),
}


@dataclass
class Point:
    """A job and what it took.

    Args:
        axis: What varies.
        value: Its value.
        architecture: Filled slots.
        examples: Number of examples trained on.
        length: Number of tokens of every example.
        evaluated: Number of examples evaluated after the epoch.
        seconds: CPU seconds.
        flops: Operations of training.
        limit: FLOP/s of a linear layer, measured next to it.
    """

    axis: str
    value: int
    architecture: Architecture
    examples: int = EXAMPLES
    length: int = LENGTH
    evaluated: int = 0
    seconds: float = float("inf")
    flops: float = 0.0
    limit: float = 0.0


def main(picture: str | None = None) -> None:
    torch.set_num_threads(1)
    backbone, data = load_backbone(MODEL), long_texts()
    found = points()
    for _ in range(PASSES):
        for point in found:
            measure(point, backbone, data)
    print_table(found)
    if picture is not None:
        draw(found, Path(picture))


def long_texts() -> TaskData:
    """A task whose texts are all longer than any length measured, so that every example has that length."""
    data = load_task(TaskConfig(name="packaged:movie", train_size=512, dev_size=512, test_size=50))
    train, dev = (replace(s, texts=[" ".join([text] * 30) for text in s.texts]) for s in (data.train, data.dev))
    return replace(data, train=train, dev=dev)


def points() -> list[Point]:
    every = [Slot(layer, kind) for layer in range(LAYERS) for kind in KINDS]
    some = filled(every[:: len(KINDS)])
    return [
        *(Point("examples", n, some, examples=n) for n in (16, 48, 96, 144)),
        *(Point("tokens per example", n, some, length=n) for n in (16, 32, 64, 128)),
        *(Point("layers with gradients", LAYERS - n, filled([Slot(n, "PA")])) for n in (5, 3, 1, 0)),
        *(Point("slots", n, filled([every[0], *every[len(every) - n + 1 :]])) for n in (1, 6, 12, 24)),
        *(Point("examples evaluated", n, some, evaluated=n) for n in (0, 64, 128, 256)),
    ]


def filled(slots: Sequence[Slot]) -> Architecture:
    return Architecture.of({slot: KINDS[slot.kind] for slot in slots})


def measure(point: Point, backbone: Backbone, data: TaskData) -> None:
    """Measure a point once more; the faster time counts."""
    limit, task = linear_speed(backbone.hidden_size, BATCH * point.length), encoded(point, backbone, data)
    started = time.process_time()
    result = run(point, backbone, task)
    seconds = time.process_time() - started
    if seconds < point.seconds:
        point.seconds, point.flops = seconds, result.cost.flops
    point.limit = max(point.limit, limit)


def encoded(point: Point, backbone: Backbone, data: TaskData) -> EncodedTask:
    few = replace(data, train=data.train.take(range(point.examples)), dev=data.dev.take(range(max(1, point.evaluated))))
    return encode_task(few, backbone, point.length)


def run(point: Point, backbone: Backbone, task: EncodedTask) -> TrainResult:
    job = TrainJob(
        model=MODEL,
        model_fingerprint=backbone.fingerprint,
        task=task.data.name,
        task_fingerprint=task.data.fingerprint,
        metric=task.data.metric,
        architecture=point.architecture,
        modules=ModulesConfig(),
        training=TrainingConfig(epochs=1, batch_size=BATCH, micro_batches=1),
        seed=0,
        evaluate="dev" if point.evaluated else "none",
    )
    return train(job, backbone, task, SoloGroup(), lambda done, total: None).result


def linear_speed(hidden: int, tokens: int) -> float:
    """FLOP/s of the two linear layers of an FFN, forward, on a batch of that many tokens."""
    up, down, x = torch.randn(4 * hidden, hidden), torch.randn(hidden, 4 * hidden), torch.randn(tokens, hidden)
    flops, done, started = 2 * 2 * tokens * hidden * 4 * hidden, 0, time.process_time()
    while time.process_time() - started < 0.2:
        torch.nn.functional.linear(torch.nn.functional.linear(x, up), down)
        done += 1
    return flops * done / (time.process_time() - started)


def print_table(found: Sequence[Point]) -> None:
    columns = ("what varies", "value", "CPU s", "GFLOP of training", "GFLOP/s", "linear GFLOP/s", "share")
    table = Table(*columns, title=f"{MODEL}, one thread")
    for point in found:
        speed = "" if point.evaluated else f"{point.flops / point.seconds / 1e9:.0f}"
        share = "" if point.evaluated else f"{point.flops / point.seconds / point.limit:.0%}"
        row = (point.axis, str(point.value), f"{point.seconds:.2f}", f"{point.flops / 1e9:.0f}", speed)
        table.add_row(*row, f"{point.limit / 1e9:.0f}", share)
    Console().print(table)


def draw(found: Sequence[Point], picture: Path) -> None:
    """Draw seconds against everything that varies, and the time that the operations would take at the limit."""
    from plotly.subplots import make_subplots

    axes = list(dict.fromkeys(point.axis for point in found))
    figure = make_subplots(rows=1, cols=len(axes), shared_yaxes=True, horizontal_spacing=0.02)
    for column, axis in enumerate(axes, start=1):
        these = [point for point in found if point.axis == axis]
        lines = {"job": [p.seconds for p in these], "training at the limit": [p.flops / p.limit for p in these]}
        for (name, values), colour, dash in zip(lines.items(), COLOURS, ("solid", "dash"), strict=False):
            figure.add_scatter(
                x=[p.value for p in these],
                y=values,
                name=name,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": colour, "dash": dash},
                row=1,
                col=column,
            )
    apply_style(figure, height=300)
    for column, axis in enumerate(axes, start=1):
        figure.update_xaxes(title_text=axis, rangemode="tozero", row=1, col=column)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="CPU s", row=1, col=1)
    picture.write_text(svg_of(figure, 1000, 300), encoding="utf-8")


def svg_of(figure: Any, width: int, height: int) -> str:
    """Draw a Plotly figure as an SVG, in the machine's Chromium."""
    from playwright.sync_api import sync_playwright
    from plotly.offline import get_plotlyjs

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.add_script_tag(content=get_plotlyjs())
        size = {"format": "svg", "width": width, "height": height}
        url: str = page.evaluate(
            "([figure, size]) => Plotly.toImage(figure, size)", [json.loads(figure.to_json()), size]
        )
        svg: str = page.evaluate("url => decodeURIComponent(url.slice(url.indexOf(',') + 1))", url)
        browser.close()
    return svg


if __name__ == "__main__":
    main(*sys.argv[1:])
