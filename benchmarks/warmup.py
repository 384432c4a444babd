"""The gain from a second worker in the warm-up: seconds of the warm-up phase with 1 worker against 2, on real Ray.

Efficiency is T(1) / (2 T(2)): 1 if two workers take half the time. The peer is the limit of the machine itself: the
same training in two processes that share nothing, against one of them alone.
"""

import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.collecting import run as run_job
from prunepeft_ray import search, summarise
from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import PAPER_CRITERIA, TaskConfig
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import encode_task

SELECTORS = {
    "frequency": (),
    "effectiveness": ("warmup.epochs=2", "pruning.criteria=[weight,activation,sensitivity,gradient]"),
}
"""The two selectors: the first with its defaults, the second with settings that keep it short."""
REST = (
    "task.train_size=400",
    "task.dev_size=32",
    "task.test_size=32",
    "pruning.rounds=1",
    "pruning.train_size=16",
    "training.epochs=1",
)
"""Nothing after the warm-up is measured."""


def main() -> None:
    table = Table("warm-up", "jobs", "1 worker s", "2 workers s", "efficiency", title="warm-up in parallel, MiniLM")
    for selector in SELECTORS:
        (one, jobs), (two, _) = (warm_up(selector, workers) for workers in (1, 2))
        table.add_row(selector, str(jobs), f"{one:.1f}", f"{two:.1f}", f"{one / (2 * two):.2f}")
    alone, together = (statistics.median(side_by_side(count) for _ in range(3)) for count in (1, 2))
    # two jobs by one process take twice as long as one
    table.add_row("peer: no sharing", "2", f"{2 * alone:.1f}", f"{together:.1f}", f"{alone / together:.2f}")
    Console().print(table)


def warm_up(selector: str, workers: int) -> tuple[float, int]:
    with tempfile.TemporaryDirectory() as folder:
        settings = (*REST, f"warmup.select={selector}", *SELECTORS[selector])
        output = Path(folder) / "run"
        run = search("packaged:minilm", "packaged:movie", "1.3%", output=output, settings=settings, workers=workers)
        phase = next(phase for phase in summarise(run).phases if phase.name == "warmup")
        return phase.seconds, phase.jobs


def side_by_side(count: int) -> float:
    """Seconds that the same job takes in ``count`` processes at once."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(count, initializer=prepare) as pool:
        pool.map(train_once, range(count), chunksize=1)
        return statistics.mean(pool.map(train_once, range(count), chunksize=1))


def prepare() -> None:
    torch.set_num_threads(1)


def train_once(_number: int) -> float:
    backbone = load_backbone("packaged:minilm")
    task = encode_task(load_task(TaskConfig(name="packaged:movie", train_size=100)), backbone, 128)
    started = time.monotonic()
    run_job(backbone, task, PAPER_CRITERIA)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
