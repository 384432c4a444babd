"""The time to read the tables of a large store, 5,000 finished jobs, through merged parts and file by file.

The peer is ``pandas.read_parquet`` of the table's folder. Times are CPU seconds of this process. The time for 100,000
jobs is extrapolated as twenty times as much, since reading is linear in the numbers of rows and files.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, compare
from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.config import ModulesConfig, TrainingConfig
from prunepeft_ray.jobs import Cost, Epoch, TrainJob, TrainResult, Work
from prunepeft_ray.results import ResultsStore, RunContext, hardware, versions

JOBS, LARGE = 5000, 100_000
TABLES = ("jobs", "epochs", "scores", "architectures")
SLOTS = [Slot(layer, kind) for layer in range(6) for kind in ("PA", "PF", "PT", "SA")]


def main(jobs: int = JOBS) -> None:
    title = f"reading the tables of {jobs} jobs, CPU s (in brackets: extrapolated to {LARGE})"
    table = Table("table", "peer: pandas", "file by file", "merged", "ratio merged/peer", title=title)
    found, seconds = measure(jobs)
    for name, values in found.items():
        cells = (f"{value:.2f} ({value * LARGE / jobs:.0f})" for value in values)
        table.add_row(name, *cells, f"{values[2] / values[0]:.3f}")
    Console().print(table)
    print(f"compaction took {1000 * seconds / jobs:.1f} ms per job, once")


def figures(jobs: int = 1000) -> list[Figure]:
    """Measure reading the jobs of a store that was merged."""
    theirs, _, ours = measure(jobs)[0]["jobs"]
    return [compare(f"reading {jobs:,} jobs", "pandas.read_parquet of the folder", "s", [theirs], [ours], 1.0)]


def measure(jobs: int) -> tuple[dict[str, tuple[float, float, float]], float]:
    """CPU seconds by table: of the peer, file by file, and merged; and those that merging took."""
    with tempfile.TemporaryDirectory() as folder:
        store = ResultsStore(Path(folder))
        fill(store, jobs)
        singly = {name: (spent(pd.read_parquet, Path(folder) / name), spent(store.read, name)) for name in TABLES}
        seconds = spent(store.compact)
        return {name: (*values, spent(store.read, name)) for name, values in singly.items()}, seconds


def fill(store: ResultsStore, jobs: int) -> None:
    """Commit a job with 24 slots and the scores of two criteria, and copy its files under other names."""
    supernet = Architecture.of({slot: Module("lora", 8) for slot in SLOTS})
    job = TrainJob("m", "m", "t", "t", "accuracy", supernet, ModulesConfig(), TrainingConfig(), seed=0)
    metrics, now = {"accuracy": 0.5, "loss": 1.0}, datetime.now(UTC)
    scores = {name: {str(slot): 0.5 for slot in SLOTS} for name in ("weight", "zeros")}
    result = TrainResult(900, 10, (Epoch(1, 1.0, metrics, 1.0),), 1, metrics, scores=scores, cost=Cost(100))
    context = RunContext("0123456789ab", "prunepeft", "t", "m", 0, 1000, 100_000, 400, versions(), hardware())
    store.commit(context, Work(job, "round", "round"), result, now, now)
    for name in TABLES:
        (file,) = (store.folder / name).iterdir()
        data = file.read_bytes()
        for number in range(1, jobs):
            (file.parent / f"{number:016x}.parquet").write_bytes(data)


def spent(action: Callable[..., Any], *arguments: Any) -> float:
    begun = time.process_time()
    action(*arguments)
    return time.process_time() - begun


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
