"""A small run made by hand: two layers and a head's worth of numbers that can be checked on paper."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.config import ModulesConfig, SearchSpec, TrainingConfig
from prunepeft_ray.jobs import Cost, Decision, TrainJob, TrainResult, Work
from prunepeft_ray.results import ResultsStore, RunContext, RunFolder

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODULES = {
    "PA": Module("lora", 8),
    "PF": Module("parallel", 16),
    "PT": Module("prefix", 30),
    "SA": Module("pfeiffer", 16),
}
REMOVED = (("SA.3", 1, 0.5), ("PA.0", 1, 0.25), ("SA.0", 2, 0.125), ("SA.2", 2, 0.75))


def supernet(layers: int = 4, kinds: tuple[str, ...] = ("PA", "SA")) -> Architecture:
    return Architecture.of({Slot(layer, kind): MODULES[kind] for layer in range(layers) for kind in kinds})


def start_run(path: Path, model: str = "packaged:minilm", task: str = "packaged:movie") -> RunFolder:
    spec = SearchSpec.model_validate({"model": model, "task": task, "budget": "1%", "seed": 5})
    return RunFolder.create(path, spec)


def context_of(folder: RunFolder) -> RunContext:
    spec = folder.spec
    return RunContext(folder.run_id, "prunepeft", spec.task.name, spec.model, 5, 1000, 100_000, 400, {}, {})


def add_job(
    folder: RunFolder, kind: str, seed: int, examples: int, seconds: float, start: float = 0.0, **changes: object
) -> None:
    job = TrainJob("m", "m", "t", "t", "accuracy", supernet(), ModulesConfig(), TrainingConfig(), seed)
    cost = Cost(train_examples=examples, flops=1e9 * examples, wall_seconds=seconds, device_seconds=2 * seconds)
    values = {"parameters": 900, "head_parameters": 10, "epochs": (), "best_epoch": 0, "metrics": {}, "cost": cost}
    store, begun = ResultsStore(folder.results), NOW + timedelta(seconds=start)
    store.commit(
        context_of(folder),
        Work(job, kind, kind),
        TrainResult(**values | changes),
        begun,
        begun + timedelta(seconds=seconds),
    )


def add_rounds(folder: RunFolder, rounds: tuple[int, ...] = (1, 2)) -> None:
    """Decisions of warm-up and rounds; of a round also about slots that stay."""
    for index in rounds:
        gone = {slot: p for slot, number, p in REMOVED if number == index}
        judged = gone | {"PA.1": 0.0625}
        decisions = [
            Decision("round", index, slot, f"0.{slot[:2]}", ("weight", "zeros"), p, slot in gone, f"r{index}")
            for slot, p in judged.items()
        ]
        ResultsStore(folder.results).commit_decisions(context_of(folder), decisions)
    turn = [Decision("warmup", 1, "PA.3", "1.PA", ("weight",), 9.0, True, "w1")]
    ResultsStore(folder.results).commit_decisions(context_of(folder), turn)


def add_search(folder: RunFolder) -> None:
    add_job(folder, "warmup", 0, 100, 1.0)
    add_job(folder, "warmup", 1, 200, 2.5, start=0.5)
    add_job(folder, "warmup", 4, 100, 1.5, start=100.0)
    add_job(folder, "round", 2, 400, 8.0)
    add_rounds(folder)


def finish(folder: RunFolder, layers: int = 4, blocks: tuple[int, ...] = (1, 3)) -> None:
    """A search, its retraining and its answer."""
    add_search(folder)
    add_job(
        folder, "final", 3, 1200, 30.0, metrics={"loss": 0.4, "accuracy": 0.8125}, test={"accuracy": 0.75, "f1": 0.5}
    )
    whole = supernet(layers)
    found = whole.without(Slot.parse(slot) for slot, _, _ in REMOVED)
    folder.write_json(
        "strategy.json",
        {"assignment": {"0.PA": ["weight"], "0.SA": list(folder.spec.pruning.criteria), "1.PA": ["zeros", "gradient"]}},
    )
    folder.write_json(
        "architecture.json",
        found.to_dict()
        | {
            "supernet": whole.to_dict(),
            "layers": layers,
            "blocks": list(blocks),
            "parameters": 900,
            "head_parameters": 10,
            "backbone_parameters": 100_000,
            "budget": 1000,
        },
    )
