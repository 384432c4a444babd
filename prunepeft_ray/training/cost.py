"""Cost of a job: floating-point operations and memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from functools import reduce
from itertools import pairwise, takewhile
from operator import not_

import numpy as np
import torch
from torch import nn

from prunepeft_ray.architecture import Architecture, Module
from prunepeft_ray.backbones import Backbone
from prunepeft_ray.config import ModulesConfig, TrainingConfig
from prunepeft_ray.modules import MODULE_TYPES
from prunepeft_ray.training.encoding import Indices, epoch_batches


@dataclass(frozen=True)
class TrainingFlops:
    """Floating-point operations of the matrix products of a training, by what they grow with.

    They are what the training needs, forward and backward, on any device: operations that a kernel repeats to save
    memory are not counted, and elementwise ones are negligible.

    Args:
        per_step: Per optimiser step.
        per_pass: Per micro-batch.
        per_example: Per example.
        per_token: Per token, padding included.
        per_pair: Per pair of tokens of an example.
    """

    per_step: int = 0
    per_pass: int = 0
    per_example: int = 0
    per_token: int = 0
    per_pair: int = 0

    def __add__(self, other: TrainingFlops) -> TrainingFlops:
        return TrainingFlops(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def of_step(self, parts: Iterable[Indices]) -> int:
        """Return the operations of an optimiser step.

        Args:
            parts: Numbers of tokens of the examples, by micro-batch; each is padded to its longest example.
        """
        return self.per_step + sum(self._of_part(len(lengths), int(lengths.max())) for lengths in parts)

    def _of_part(self, examples: int, tokens: int) -> int:
        return self.per_pass + examples * (self.per_example + tokens * (self.per_token + tokens * self.per_pair))

    def of_training(self, lengths: Indices, recipe: TrainingConfig, micro_batches: int) -> int:
        """Return the operations of all epochs of a recipe, which are about those of the job itself.

        Args:
            lengths: Numbers of tokens of the examples to train on.
            recipe: Epochs and batch size.
            micro_batches: Number of parts of every batch.
        """
        batches = epoch_batches(lengths, recipe.batch_size, seed=0, epoch=1)
        steps = ([lengths[part] for part in split_batch(batch, micro_batches)] for batch in batches)
        return recipe.epochs * sum(self.of_step(parts) for parts in steps)


def split_batch(batch: Indices, micro_batches: int) -> list[Indices]:
    """Split a batch into micro-batches; a small batch has fewer."""
    return [part for part in np.array_split(batch, micro_batches) if len(part)]


def training_flops(
    backbone: Backbone, architecture: Architecture, settings: ModulesConfig, num_outputs: int
) -> TrainingFlops:
    """Compute the operations of training an architecture from the shapes of its matrices.

    A matrix of n weights takes 2n operations per token forward, 2n backward if it is trained, and 2n backward if its
    input depends on anything that is trained: nothing below the lowest filled slot does.

    Args:
        backbone: The backbone without modules; its weights may be on the meta device.
        architecture: The slots to fill.
        settings: How modules are initialised and scaled.
        num_outputs: Number of classes, or 1 for regression.
    """
    by_layer: list[dict[str, Module]] = [{} for _ in range(backbone.layers)]
    for slot, module in architecture:
        by_layer[slot.layer][slot.kind] = module
    below, found = False, []
    for layer, modules in enumerate(by_layer):
        # full tuning of the first layer includes the embeddings
        reach = _Reach(below or (layer == 0 and "FT" in modules), modules)
        found += [_layer_flops(backbone, layer, reach), _module_flops(backbone, layer, reach, settings)]
        below = reach.output
    found.append(_outside_flops(backbone, below, "FT" in by_layer[0], "FT" in by_layer[-1], num_outputs))
    return reduce(TrainingFlops.__add__, found)


class _Reach:
    """Which activations of a layer depend on trained weights, so that the backward pass computes their gradients.

    Args:
        below: Whether the layer's input does.
        modules: The layer's modules by slot kind.
    """

    def __init__(self, below: bool, modules: dict[str, Module]) -> None:
        self.modules, self.full = modules, "FT" in modules
        sites = {site for module in modules.values() for site in MODULE_TYPES[module.type].sites}
        self.input = below
        self.keys = below or self.full
        self.queries = self.keys or "query" in sites
        self.values = self.keys or "value" in sites
        self.scores = self.queries or "attention" in sites
        self.attended = self.scores or self.values
        self.ffn = self.attended or "attention_output" in sites
        self.output = self.ffn or not sites.isdisjoint(("ffn", "ffn_output"))

    def of_input(self, site: str) -> bool:
        """Return whether the input of a module at a site depends on trained weights."""
        inputs = {"query": self.input, "value": self.input, "attention": self.queries}
        return inputs.get(site, self.attended if site == "attention_output" else self.ffn)


def _layer_flops(backbone: Backbone, layer: int, reach: _Reach) -> TrainingFlops:
    """Operations of a layer's own matrices, and of its attention: queries with keys, and weights with values."""
    module = backbone.model.get_submodule(f"{backbone.family.layers}.{layer}")
    matrices = dict(_matrices(module))
    attention = backbone.family.query.split(".")[0] + "."
    # queries, keys and values read the layer's input; the last one of the attention reads the heads' outputs
    *projections, output = [size for name, size in matrices.items() if name.startswith(attention)]
    ffn = [size for name, size in matrices.items() if not name.startswith(attention)]
    # a part without matrices is a norm before the projections, as in Llama
    projected = reach.input or (reach.full and not all(dict(_matrices(part)) for part in module.children()))
    passes = 2 if reach.full else 1
    per_token = sum(
        sum(sizes) * (passes + backward)
        for sizes, backward in ((projections, projected), ([output], reach.attended), (ffn, reach.ffn))
    )
    products = 2 + reach.values + reach.scores + reach.queries + reach.keys
    return TrainingFlops(per_token=2 * per_token, per_pair=2 * products * backbone.width(layer, "attention")[1])


def _module_flops(backbone: Backbone, layer: int, reach: _Reach, settings: ModulesConfig) -> TrainingFlops:
    """Operations of the modules in a layer's slots; full tuning is part of the layer's."""
    per_step = per_pass = per_token = 0
    for kind, module in reach.modules.items():
        for site in MODULE_TYPES[module.type].sites if kind != "FT" else ():
            work = MODULE_TYPES[module.type].work(backbone.width(layer, site), module.size, settings)
            first, *rest = [one * other for one, other in pairwise(work.chain)]
            backward = reach.of_input(site)
            per_token += first * (2 + backward) + 3 * sum(rest) + work.frozen * (1 + backward)
            per_pass += work.per_pass
            per_step += work.per_step
    return TrainingFlops(2 * per_step, 2 * per_pass, per_token=2 * per_token)


def _outside_flops(backbone: Backbone, below: bool, first: bool, last: bool, num_outputs: int) -> TrainingFlops:
    """Operations of the matrices outside the layers: of embeddings, a pooler, and the head.

    Args:
        backbone: The backbone.
        below: Whether the output of the last layer depends on trained weights.
        first: Whether what comes before the layers is trained.
        last: Whether what comes between layers and head is trained.
        num_outputs: Number of outputs of the head.
    """
    family = backbone.family
    sizes = dict(_matrices(backbone.model))
    sizes[family.classifier] = backbone.model.get_submodule(family.classifier).in_features * num_outputs
    inside = [name.startswith(f"{family.layers}.") for name in sizes]
    before = [size for size, _ in zip(sizes.values(), takewhile(not_, inside), strict=False)]
    head = {name.removesuffix(".weight") for name in backbone.head_parameters}
    after = 0
    for name, size in list(sizes.items())[len(before) + sum(inside) :]:
        trained = last or name in head
        after += size * (1 + trained + below)
        below = below or trained
    per_token = sum(before) * (3 if first else 1) + (after if family.head_per_token else 0)
    return TrainingFlops(per_token=2 * per_token, per_example=0 if family.head_per_token else 2 * after)


def _matrices(module: nn.Module) -> Iterator[tuple[str, int]]:
    """The numbers of weights of the matrices that inputs are multiplied with, by name of their module."""
    for name, found in module.named_modules():
        weight = getattr(found, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() == 2 and not isinstance(found, nn.Embedding):
            yield name, weight.numel()


def peak_memory(device: torch.device) -> int:
    """Return the peak memory use so far, in bytes: of the GPU, or resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
