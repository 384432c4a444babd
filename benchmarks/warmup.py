"""What a second worker gains in the warm-up: seconds of the warm-up phase with 1 worker against 2, on real Ray.

Efficiency is T(1) / (2 T(2)); 1 would be twice as fast.
"""

import statistics
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prunepeft_ray import search, summarise

SELECTORS = ("frequency", "effectiveness")
SETTINGS = (
    "warmup.train_size=64",
    "warmup.epochs=2",
    "warmup.turns=2",
    "pruning.criteria=[weight,activation,sensitivity,gradient]",
    "task.train_size=200",
    "task.dev_size=32",
    "task.test_size=32",
    "pruning.rounds=1",
    "pruning.train_size=16",
    "training.epochs=1",
)
REPEATS = 2


def main() -> None:
    table = Table("warm-up", "jobs", "1 worker s", "2 workers s", "efficiency", title="warm-up in parallel, MiniLM")
    for selector in SELECTORS:
        seconds: dict[int, list[float]] = {1: [], 2: []}
        jobs = 0
        for _ in range(REPEATS):
            for workers in seconds:
                found, jobs = warm_up(selector, workers)
                seconds[workers].append(found)
        one, two = (statistics.median(seconds[workers]) for workers in (1, 2))
        table.add_row(selector, str(jobs), f"{one:.1f}", f"{two:.1f}", f"{one / (2 * two):.2f}")
    Console().print(table)


def warm_up(selector: str, workers: int) -> tuple[float, int]:
    with tempfile.TemporaryDirectory() as folder:
        settings = (*SETTINGS, f"warmup.select={selector}")
        run = search(
            "packaged:minilm",
            "packaged:movie",
            "1.3%",
            output=Path(folder) / "run",
            settings=settings,
            workers=workers,
        )
        phase = next(phase for phase in summarise(run).phases if phase.name == "warmup")
        return phase.seconds, phase.jobs


if __name__ == "__main__":
    main()
