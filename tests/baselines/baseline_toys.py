"""A problem without a model, and what training on it would give, for tests of decisions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

from toy_jobs import digest, make_template

from prunepeft_ray import (
    Architecture,
    CandidateConfig,
    GeneratorMethod,
    Module,
    ModuleCost,
    Problem,
    Slot,
    Space,
    TrainResult,
    Work,
    load_spec,
)
from prunepeft_ray.modules import build_space, module_cost

HIDDEN = 32

Answer = Callable[[Work], TrainResult]


@dataclass(frozen=True)
class ToyBackbone:
    """All that the costs of modules ask of a backbone."""

    layers: int
    hidden_size: int = HIDDEN

    def parts(self, layer: int, site: str) -> tuple[str, ...]:
        return (site,)

    def site(self, layer: int, name: str) -> tuple[object, str]:
        return SimpleNamespace(**{name: None}), name

    def width(self, layer: int, name: str) -> tuple[int, int]:
        return self.hidden_size, self.hidden_size


def make_problem(
    layers: int = 4,
    kinds: Iterable[str] = ("PA", "SA"),
    budget: int | None = None,
    seed: int = 0,
    evaluations: int = 12,
    candidate: CandidateConfig | None = None,
    **settings: object,
) -> Problem:
    """A problem on a toy backbone; the default budget is half of the supernet.

    ``settings`` are parts of the spec, such as ``space={"rank": 4}`` or ``pruning={"rounds": 2}``.
    """
    space_settings = {"rank": 2, "bottleneck": 4, "kinds": list(kinds), **settings.pop("space", {})}
    spec = load_spec(None, {"model": "m", "task": "t", "budget": "1", "seed": seed, "space": space_settings} | settings)
    backbone = ToyBackbone(layers)
    space = build_space(spec.space, backbone)
    return Problem(
        spec=spec,
        space=space,
        budget=space.parameters(space.supernet) // 2 if budget is None else budget,
        template=make_template(spec, space),
        hidden=HIDDEN,
        cost=lambda slot, module_type: module_cost(backbone, slot, module_type),
        candidate=candidate or CandidateConfig(),
        evaluations=evaluations,
    )


def space_of(costs: Mapping[str, int]) -> Space:
    """A space with slots of given costs, such as ``{"PA.0": 3}``."""
    slots = {Slot.parse(text): cost for text, cost in costs.items()}
    supernet = Architecture.of({slot: Module("lora", 1) for slot in slots})
    layers = 1 + max(slot.layer for slot in slots)
    return Space(layers, supernet, {slot: ModuleCost(cost) for slot, cost in slots.items()})


def slot_value(slot: Slot) -> float:
    """What a slot is worth: little in the lowest layers, and PA more than SA."""
    return (1.0 + slot.layer) * (1.0 if slot.kind == "PA" else 0.6)


def merit(architecture: Architecture, noise: float = 0.0) -> float:
    """Additive slot values, and noise of that standard size that depends on the architecture alone."""
    return sum(slot_value(slot) for slot in architecture.slots) + noise * digest(architecture.id)


def answer(work: Work, noise: float = 0.5) -> TrainResult:
    """Train nothing, and give the merit as accuracy and hashes as scores."""
    job = work.job
    value = merit(job.architecture, noise)
    return TrainResult(
        parameters=len(job.architecture),
        head_parameters=1,
        epochs=(),
        best_epoch=1,
        metrics={"loss": -value, "accuracy": value},
        scores={c: {str(slot): digest(job.id, c, slot) for slot in job.architecture.slots} for c in job.collect},
    )


def failure(work: Work) -> TrainResult:
    """The result of a job that ran out of memory."""
    return TrainResult(0, 0, (), 0, {}, status="failed", reason="out of memory")


def drive(method: GeneratorMethod, reply: Answer = answer, shuffle: random.Random | None = None) -> list[Work]:
    """Run a method to its end and return all work; ``shuffle`` tells results in a random order."""
    seen: list[Work] = []
    waiting: list[Work] = []
    while not method.done:
        new = method.ask()
        assert new or waiting, "the method neither is done nor has anything to run"
        seen += new
        waiting += new
        piece = waiting.pop(shuffle.randrange(len(waiting)) if shuffle else 0)
        method.tell(piece.job, reply(piece))
    assert not waiting
    assert method.ask() == ()
    return seen
