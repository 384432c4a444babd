"""A problem on a tiny model."""

from __future__ import annotations

from functools import partial

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.jobs import TrainJob
from prunepeft_ray.methods import Problem
from prunepeft_ray.modules import build_space, module_cost


def make_problem(model: str, budget: int) -> Problem:
    backbone = load_backbone(model)
    spec = SearchSpec.model_validate({"model": model, "task": "t", "budget": str(budget)})
    space = build_space(spec.space, backbone)
    template = TrainJob(
        model=model,
        model_fingerprint=backbone.fingerprint,
        task="t",
        task_fingerprint="tf",
        metric="accuracy",
        architecture=space.supernet,
        modules=spec.modules,
        training=spec.training,
        seed=0,
    )
    return Problem(spec, space, budget, template, backbone.hidden_size, partial(module_cost, backbone))
