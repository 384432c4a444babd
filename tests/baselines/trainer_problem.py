"""A problem on a tiny model."""

from __future__ import annotations

from functools import partial

from toy_jobs import make_template

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.methods import Problem
from prunepeft_ray.modules import build_space, module_cost


def make_problem(model: str, budget: int) -> Problem:
    backbone = load_backbone(model)
    spec = SearchSpec.model_validate({"model": model, "task": "t", "budget": str(budget)})
    space = build_space(spec.space, backbone)
    template = make_template(spec, space, model=model, model_fingerprint=backbone.fingerprint)
    return Problem(spec, space, budget, template, backbone.hidden_size, partial(module_cost, backbone))
