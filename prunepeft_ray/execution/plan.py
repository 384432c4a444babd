"""The plan of a search: space, budget and job template."""

from __future__ import annotations

from dataclasses import dataclass

from prunepeft_ray.architecture import Space, block_sizes, check_budget, parse_budget
from prunepeft_ray.backbones import Backbone
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.jobs import TrainJob
from prunepeft_ray.modules import build_space
from prunepeft_ray.pruning import PROFILES, SELECTORS, PrunePEFT, Strategy
from prunepeft_ray.tasks import TaskData


@dataclass(frozen=True)
class Plan:
    """Everything about a search that depends on its model and task.

    Args:
        space: The supernet's space.
        budget: Maximum number of PEFT parameters.
        template: The job that all jobs of the search are derived from.
        blocks: Number of layers in each block.
    """

    space: Space
    budget: int
    template: TrainJob
    blocks: tuple[int, ...]

    def method(self, spec: SearchSpec, strategy: Strategy | None = None) -> PrunePEFT:
        """Build the search method."""
        return PrunePEFT(spec, self.space, self.budget, self.template, strategy)


def plan_search(spec: SearchSpec, backbone: Backbone, data: TaskData) -> Plan:
    """Compute space, budget and job template of a search.

    Args:
        spec: The search.
        backbone: The backbone; its weights may be on the meta device.
        data: The task.

    Raises:
        InputError: If space, budget, blocks or method settings do not fit the model.
    """
    for registry, name in ((PROFILES, spec.pruning.profile), (SELECTORS, spec.warmup.select)):
        registry[name]  # a method that does not use it would not notice that there is none
    space = build_space(spec.space, backbone)
    budget = parse_budget(spec.budget, backbone.parameters)
    check_budget(spec.budget, budget, space)
    template = TrainJob(
        model=spec.model,
        model_fingerprint=backbone.fingerprint,
        task=spec.task.name,
        task_fingerprint=data.fingerprint,
        metric=data.metric,
        architecture=space.supernet,
        modules=spec.modules,
        training=spec.training,
        seed=spec.seed,
    )
    return Plan(space, budget, template, block_sizes(space.layers, spec.pruning.blocks))
