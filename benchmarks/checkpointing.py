"""The cost of saving checkpoints, against the same job without them.

The peer saves, at the same moments, what a plain training loop saves: the whole model and the optimiser, with
``torch.save``.

Wall-clock seconds are compared, since writing is part of it; the variants take turns, and the ratio is the median over
repeats.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.collecting import job
from prunepeft_ray.backbones import Backbone, load_backbone
from prunepeft_ray.config import PAPER_CRITERIA, ExecutionConfig, TaskConfig
from prunepeft_ray.execution.job_checkpoint import JobKeeper
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import EncodedTask, Keeper, SoloGroup, State, encode_task, train

EXAMPLES, EPOCHS, REPEATS = 160, 3, 5


class Counting(JobKeeper):
    """A keeper as in a search that also counts checkpoints, seconds and bytes."""

    saved, spent, size = 0, 0.0, 0

    def save(self, state: State) -> None:
        started = time.perf_counter()
        super().save(state)
        self.spent += time.perf_counter() - started
        self.saved += 1
        self.size = self.file.stat().st_size


class Peer(Counting):
    """Saves the whole model and the optimiser."""

    model: torch.nn.Module

    def save(self, state: State) -> None:
        started = time.perf_counter()
        torch.save({"model": self.model.state_dict(), "optimiser": state["optimiser"]}, self.file)
        self.spent += time.perf_counter() - started
        self.saved += 1
        self.size = self.file.stat().st_size


def main() -> None:
    torch.set_num_threads(1)
    backbone = load_backbone("packaged:minilm")
    task = encode_task(load_task(TaskConfig(name="packaged:movie", train_size=EXAMPLES)), backbone, 128)
    seconds: dict[str, list[float]] = {}
    last: dict[str, Counting | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        keepers: dict[str, Callable[[], Counting | None]] = {
            "no checkpoints": lambda: None,
            "every epoch and 60 s (default)": lambda: keeper(Counting, folder, ExecutionConfig().checkpoint_seconds),
            "every step": lambda: keeper(Counting, folder, 1e-9),
            "peer: whole model, every epoch": lambda: peer(folder, backbone),
        }
        run(backbone, task, None)
        for _ in range(REPEATS):
            for name, make in keepers.items():
                last[name] = made = make()
                started = time.perf_counter()
                run(backbone, task, made)
                seconds.setdefault(name, []).append(time.perf_counter() - started)
                if made:
                    made.discard()
    show(seconds, last)


def keeper(kind: type[Counting], folder: str, interval: float) -> Counting:
    return kind("benchmark", Path(folder), interval, lambda: False, lambda _text: None)


def peer(folder: str, backbone: Backbone) -> Counting:
    made = keeper(Peer, folder, ExecutionConfig().checkpoint_seconds)
    assert isinstance(made, Peer)
    made.model = backbone.model
    return made


def run(backbone: Backbone, task: EncodedTask, kept: Keeper | None) -> None:
    from dataclasses import replace

    whole = job(backbone, task, PAPER_CRITERIA)
    longer = replace(whole, training=whole.training.model_copy(update={"epochs": EPOCHS, "patience": None}))
    train(longer, backbone, task, SoloGroup(), lambda _done, _total: None, kept)


def show(seconds: dict[str, list[float]], last: dict[str, Counting | None]) -> None:
    title = f"checkpoints, MiniLM supernet, {EPOCHS} epochs of {EXAMPLES} examples"
    table = Table("variant", "wall s", "checkpoints", "MB each", "ms each", "% of training", "ratio", title=title)
    base = seconds["no checkpoints"]
    for name, found in seconds.items():
        kept = last[name]
        ratio = statistics.median(a / b for a, b in zip(found, base, strict=True))
        cells = ["0", "", "", ""]
        if kept:
            cells = [str(kept.saved), f"{kept.size / 1e6:.1f}", f"{1000 * kept.spent / kept.saved:.0f}"]
            cells += [f"{100 * kept.spent / statistics.median(base):.2f}"]
        table.add_row(name, f"{statistics.median(found):.2f}", *cells, f"{ratio:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
