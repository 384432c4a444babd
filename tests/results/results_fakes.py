"""Jobs, results and decisions made up for tests of the store."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st

from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.config import ModulesConfig, SearchSpec, TrainingConfig
from prunepeft_ray.jobs import Cost, Decision, Epoch, TrainJob, TrainResult, Work
from prunepeft_ray.results import Request, ResultsStore, RunContext, SearchOutcome

STARTED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FINISHED = datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC)
FILLED = Architecture.of({Slot(0, "PA"): Module("lora", 8), Slot(1, "SA"): Module("pfeiffer", 16)})
CONTEXT = RunContext(
    run_id="0123456789ab",
    method="prunepeft",
    task="packaged:movie",
    model="packaged:minilm",
    seed=3,
    budget=1000,
    backbone_parameters=100_000,
    task_train_size=400,
    versions={"python": "3.11"},
    hardware={"cpu": "some"},
)
SPEC = SearchSpec.model_validate({"model": "packaged:minilm", "task": "packaged:movie", "budget": "1%"})


def make_job(seed: int = 0, architecture: Architecture = FILLED) -> TrainJob:
    return TrainJob(
        model="packaged:minilm",
        model_fingerprint="m",
        task="packaged:movie",
        task_fingerprint="t",
        metric="accuracy",
        architecture=architecture,
        modules=ModulesConfig(),
        training=TrainingConfig(),
        seed=seed,
    )


def make_work(seed: int = 0, kind: str = "round", architecture: Architecture = FILLED) -> Work:
    return Work(make_job(seed, architecture), kind, f"{kind} {seed}")


def make_result(loss: float = 0.5, **changes: object) -> TrainResult:
    values = {
        "parameters": 900,
        "head_parameters": 10,
        "epochs": (Epoch(1, loss, {"accuracy": 0.75, "loss": loss}, 1.5), Epoch(2, loss, {}, 1.25)),
        "best_epoch": 1,
        "metrics": {"accuracy": 0.75, "loss": loss},
        "scores": {"weight": {"PA.0": loss, "SA.1": 2.0}},
        "halves": {"weight": {"PA.0": (loss / 2, loss)}},
        "cost": Cost(100, 50, 7, 1e9, 2.5, 2.0, 12345),
    }
    return TrainResult(**values | changes)


def make_decisions(index: int = 1, job_id: str = "j1") -> list[Decision]:
    return [
        Decision("round", index, "PA.0", "0.PA", ("weight", "zeros"), 0.625, True, job_id),
        Decision("round", index, "SA.1", "1.SA", ("gradient",), 0.375, False, job_id),
    ]


def commit(store: ResultsStore, seed: int = 0, result: TrainResult | None = None, kind: str = "round") -> bool:
    return store.commit(CONTEXT, make_work(seed, kind), result or make_result(), STARTED, FINISHED)


def make_request(position: int = 0, **changes: object) -> Request:
    values = {
        "run_id": "0123456789ab",
        "method": "prunepeft",
        "task": "packaged:movie",
        "model": "packaged:minilm",
        "seed": 3,
        "position": position,
        "job_id": make_job(position).id,
        "kind": "round",
        "label": f"round {position}",
    }
    return Request(**values | changes)


def make_outcome(**changes: object) -> SearchOutcome:
    values = {
        "run_id": "0123456789ab",
        "method": "prunepeft",
        "task": "packaged:movie",
        "model": "packaged:minilm",
        "seed": 3,
        "status": "done",
        "reason": "",
        "architecture_id": FILLED.id,
        "parameters": 900,
        "budget": 1000,
        "reference": False,
        "evaluations": 4,
        "proposal_seconds": 0.25,
    }
    return SearchOutcome(**values | changes)


floats = st.floats(allow_nan=True, allow_infinity=True)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
metrics = st.dictionaries(names, floats, max_size=4)
whole = st.integers(0, 2**62)
slots = st.builds(lambda kind, layer: f"{kind}.{layer}", st.sampled_from(["PA", "SA"]), st.integers(0, 99))
results = st.builds(
    TrainResult,
    parameters=whole,
    head_parameters=whole,
    epochs=st.lists(floats, max_size=3).flatmap(
        lambda losses: st.tuples(
            *(st.builds(Epoch, st.just(i + 1), st.just(x), metrics, floats) for i, x in enumerate(losses))
        )
    ),
    best_epoch=st.integers(0, 1000),
    metrics=metrics,
    test=metrics,
    scores=st.dictionaries(names, st.dictionaries(slots, floats, min_size=1, max_size=3), max_size=3),
    cost=st.builds(Cost, whole, whole, whole, floats, floats, floats, whole),
    status=st.sampled_from(["done", "failed"]),
    reason=st.text(st.characters(codec="utf-8"), max_size=30),
)
