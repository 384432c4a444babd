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

CHARACTERS_PER_TOKEN = 4
SAMPLE = 1000
"""Number of texts from which the mean length is estimated."""


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


def search_flops(spec: SearchSpec, outline: Backbone, data: TaskData) -> float:
    """Estimate the floating-point operations of all training in a search, from above and to a factor of about 2."""
    method = plan_search(spec, outline, data).method(spec)
    warmup, pruning, size = spec.warmup, spec.pruning, len(data.train)
    planned = method.planned or pruning.rounds + 1 + warmup.turns * len(pruning.criteria)
    examples = (
        (planned - pruning.rounds - 1) * warmup.epochs * min(warmup.train_size, size)
        + pruning.rounds * pruning.round_epochs * min(pruning.train_size or size, size)
        + spec.training.epochs * size
    )
    return examples * example_flops(outline, data, spec.training.max_length)


def example_flops(outline: Backbone, data: TaskData, max_length: int) -> float:
    """Estimate the floating-point operations of training on one example, before it is tokenised."""
    train = data.train
    characters = [len(text) for split in (train.texts, train.texts2 or ()) for text in split[:SAMPLE]]
    tokens = sum(characters) / CHARACTERS_PER_TOKEN / min(SAMPLE, len(train))
    # one product forward and one backward per weight: frozen weights have no gradients
    return 4 * outline.layer_parameters * min(tokens + 2, max_length)
