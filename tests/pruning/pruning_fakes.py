"""A space, a spec and an executor without training, for tests of decisions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from toy_jobs import digest

from prunepeft_ray.architecture import Architecture, Module, ModuleCost, Slot, Space
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.jobs import TrainJob, TrainResult, Work
from prunepeft_ray.pruning import GeneratorMethod

CRITERIA = ("weight", "zeros", "threshold", "activation", "sensitivity", "gradient")
Theta = Callable[[TrainJob, str, Slot], float]
Loss = Callable[[TrainJob], float]


def pa(*layers: int) -> list[Slot]:
    return [Slot(layer, "PA") for layer in layers]


def sa(*layers: int) -> list[Slot]:
    return [Slot(layer, "SA") for layer in layers]


def make_space(layers: int = 12, cost_pa: int = 100, cost_sa: int = 200, kinds: Iterable[str] = ("PA", "SA")) -> Space:
    slots = [Slot(layer, kind) for layer in range(layers) for kind in kinds]
    supernet = Architecture.of({slot: Module("lora" if slot.kind == "PA" else "pfeiffer", 1) for slot in slots})
    return Space(layers, supernet, {s: ModuleCost(cost_pa if s.kind == "PA" else cost_sa) for s in slots})


def make_spec(seed: int = 0, warmup: Mapping[str, object] | None = None, **pruning: object) -> SearchSpec:
    return SearchSpec.model_validate(
        {
            "model": "m",
            "task": "t",
            "budget": "1",
            "seed": seed,
            "training": {"epochs": 20, "patience": 5},
            "warmup": warmup or {},
            "pruning": pruning,
        }
    )


def hashed_theta(job: TrainJob, criterion: str, slot: Slot) -> float:
    return digest(job.id, criterion, slot)


def planted_theta(importance: Mapping[Slot, float]) -> Theta:
    """Every criterion sees the importance: as it is where small Theta go first, reversed for ``threshold``."""
    return lambda job, criterion, slot: 1.9 - importance[slot] if criterion == "threshold" else importance[slot]


def hashed_loss(job: TrainJob) -> float:
    return digest(job.id, "loss")


def execute(job: TrainJob, theta: Theta = hashed_theta, loss: Loss = hashed_loss) -> TrainResult:
    return TrainResult(
        parameters=len(job.architecture),
        head_parameters=1,
        epochs=(),
        best_epoch=1,
        metrics={} if job.evaluate == "none" else {"loss": loss(job), "accuracy": 0.5},
        scores={c: {str(slot): theta(job, c, slot) for slot in job.architecture.slots} for c in job.collect},
    )


def drive(
    method: GeneratorMethod,
    theta: Theta = hashed_theta,
    loss: Loss = hashed_loss,
    shuffle: random.Random | None = None,
) -> list[Work]:
    """Run a method to its end and return all work; ``shuffle`` tells results in a random order."""
    seen: list[Work] = []
    waiting: list[Work] = []
    while not method.done:
        new = method.ask()
        assert new or waiting, "the method neither is done nor has anything to run"
        seen += new
        waiting += new
        place = shuffle.randrange(len(waiting)) if shuffle else 0
        job = waiting.pop(place).job
        method.tell(job, execute(job, theta, loss))
    assert not waiting
    assert method.ask() == ()
    return seen
