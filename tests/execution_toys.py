"""A search that takes seconds: a tiny model, a small file, and what makes up its answer."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tiny import english_words

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import SearchSpec, load_spec
from prunepeft_ray.events import Event
from prunepeft_ray.execution import Workbench, run_search
from prunepeft_ray.execution.session import open_pool, resolve
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import SoloGroup

BUDGET = 1500
SETTINGS = (
    "space.rank=4",
    "space.bottleneck=4",
    "warmup.turns=2",
    "warmup.epochs=1",
    "warmup.train_size=24",
    "warmup.remove=2",
    "pruning.rounds=2",
    "training.epochs=2",
    "training.max_length=32",
    "training.learning_rates.PA=0.01",
    "training.learning_rates.SA=0.01",
    "training.learning_rates.head=0.01",
)


def write_task(file: Path) -> Path:
    """Write 100 labelled sentences; those with more good words than bad ones are 'yes'."""
    rng = np.random.default_rng(0)
    words = [word for word in english_words(80) if len(word) > 2]
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for number in range(100):
            telling = ["good", "best"] if number % 2 else ["war", "black"]
            text = [*rng.choice(words, 2 + int(rng.integers(6))), *rng.choice(telling, 3)]
            writer.writerow([" ".join(rng.permutation(text)), "yes" if number % 2 else "no"])
    return file


def make_spec(model: str, task: Path, *settings: str, budget: str = str(BUDGET), seed: int = 0) -> SearchSpec:
    """The settings of the search; further ones as ``key=value``."""
    values = {"model": model, "task": str(task), "budget": budget, "seed": seed}
    return resolve(load_spec(None, values, (*SETTINGS, *settings)), workers=2)


def search_here(
    spec: SearchSpec,
    path: Path,
    emit: Callable[[Event], None] = lambda event: None,
    again: bool = False,
    stop_wanted: Callable[[], bool] = lambda: False,
    pool: Path | None = None,
) -> RunFolder:
    """Run a search in this process."""
    folder = RunFolder.open(path) if again else RunFolder.create(path, spec)
    bench = Workbench(load_backbone(spec.model), load_task(spec.task))
    jobs = open_pool(None if pool is None else str(pool), emit)
    run_search(folder.spec, folder, bench, SoloGroup(), emit, stop_wanted, pool=jobs)
    return folder


def job_ids(path: Path) -> set[str]:
    """Ids of the finished jobs."""
    return {file.stem for file in (path / "results" / "jobs").glob("[!.]*.parquet")}


def answer(path: Path) -> dict[str, Any]:
    """All of a run that must be the same wherever and however it ran."""
    store = ResultsStore(path / "results")
    found = {}
    for job in job_ids(path):
        result = store.find(job)
        assert result is not None
        epochs = [(epoch.train_loss, dict(epoch.metrics)) for epoch in result.epochs]
        found[job] = (epochs, result.best_epoch, result.metrics, result.test, result.scores)
    decisions = store.read("decisions")
    decisions = decisions.assign(criteria=decisions["criteria"].map("+".join))
    keys = ["step", "index", "job_id", "criteria", "slot", "partition", "removed", "probability"]
    return {
        "architecture": (path / "architecture.json").read_text(),
        "strategy": (path / "strategy.json").read_text() if (path / "strategy.json").exists() else None,
        "weights": (path / "adapter" / "adapter_model.safetensors").read_bytes(),
        "jobs": found,
        "decisions": sorted(decisions[keys].itertuples(index=False, name=None)),
    }


def assert_same_answer(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Compare part by part, for a readable failure."""
    assert one["jobs"].keys() == other["jobs"].keys()
    assert one["decisions"] == other["decisions"]
    assert one["jobs"] == other["jobs"]
    for part in ("architecture", "strategy", "weights"):
        assert one[part] == other[part], part
