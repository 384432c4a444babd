import numpy as np
import pytest
import torch
from tiny import filled
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from training_toys import make_job, toy_task, train_alone

from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.backbones import load_backbone, load_outline
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.modules import MODULE_TYPES, AdaptedBackbone
from prunepeft_ray.training import encode_task
from prunepeft_ray.training.cost import TrainingFlops, training_flops

FAMILIES = ("bert", "roberta", "llama")
PEFT = ("lora", "dora", "adalora", "pfeiffer", "houlsby", "parallel", "prefix")


def only(layer, module, size=4):
    return Architecture.of({Slot(layer, MODULE_TYPES[module].kind): Module(module, size)})


ARCHITECTURES = {
    **{module: lambda layers, module=module: filled(layers, module) for module in PEFT},
    **{f"{module} in layer 2": lambda layers, module=module: only(2, module) for module in PEFT},
    "all kinds": lambda layers: filled(layers, "lora", "pfeiffer", "parallel", "prefix"),
    "head only": lambda layers: filled(layers),
    "full": lambda layers: filled(layers, "full", size=1),
    "full in layer 2": lambda layers: only(2, "full", 1),
    "full in the last layer": lambda layers: only(layers - 1, "full", 1),
}


class Untracked:
    """Replaces the counter's tracker of modules, which does not support the gradients of a prefix's network."""

    parents = frozenset({"Global"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def counted(run):
    """Operations of a call by torch's counter, and what it returns."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    fused_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    known = {
        fused: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        fused_backward: lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(g, q, k, v),
    }
    counter = FlopCounterMode(display=False, custom_mapping=known)
    counter.mod_tracker = Untracked()
    with counter:
        result = run()
    return counter.get_total_flops(), result


def counted_in_training(job, backbone, task):
    """The same for a job's training, without inserting its modules."""
    total, trained = counted(lambda: train_alone(job, backbone, task))
    inserting, adapted = counted(
        lambda: AdaptedBackbone(backbone, job.architecture, job.modules, task.data.num_labels, job.seed)
    )
    adapted.close()
    return total - inserting, trained.result.cost.flops


@pytest.fixture(params=FAMILIES)
def family(request, tiny_models):
    return tiny_models[request.param]


@pytest.fixture
def explicit(family, monkeypatch):
    """A backbone whose attention is computed by matrix products, all of which torch counts, and the toy task."""
    backbone = load_backbone(family)
    monkeypatch.setattr(backbone.model.config, "_attn_implementation", "eager")
    return backbone, encode_task(toy_task(train=20), backbone, 32)


def test_cost_counts_examples_and_steps(backbone, task):
    cost = train_alone(make_job(backbone, task, epochs=3, train_size=40), backbone, task).result.cost
    assert cost.train_examples == 3 * 40
    assert cost.eval_examples == 3 * len(task.dev)
    assert cost.steps == 3 * 3
    assert 0 < cost.wall_seconds < 60
    assert cost.device_seconds == cost.wall_seconds
    assert cost.peak_memory_bytes > 50 * 2**20


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_operations_are_exactly_those_that_torch_counts(explicit, name):
    backbone, task = explicit
    job = make_job(backbone, task, epochs=1, evaluate="none", architecture=ARCHITECTURES[name](backbone.layers))
    total, computed = counted_in_training(job, backbone, task)
    assert computed == total


def test_dora_without_dropout_does_not_repeat_the_projection(explicit):
    backbone, task = explicit
    modules = ModulesConfig(lora_dropout=0.0)
    architecture = filled(backbone.layers, "dora")
    job = make_job(backbone, task, epochs=1, evaluate="none", architecture=architecture, modules=modules)
    total, computed = counted_in_training(job, backbone, task)
    assert computed == total


def test_scores_that_a_fused_kernel_recomputes_are_not_counted(tiny_llama):
    # no dropout in attention: torch takes the fused kernel
    backbone = load_backbone(tiny_llama)
    assert backbone.model.config._attn_implementation == "sdpa"
    task = encode_task(toy_task(train=20), backbone, 32)
    job = make_job(backbone, task, epochs=1, evaluate="none", batch_size=1, micro_batches=1)
    total, computed = counted_in_training(job, backbone, task)
    recomputed = sum(2 * 32 * int(length) ** 2 for length in task.train.lengths) * backbone.layers
    # besides, the kernel computes the gradient of the first layer's keys, which nobody needs
    assert computed == total - recomputed - recomputed // backbone.layers


def test_an_outline_yields_the_operations_of_the_loaded_backbone(family):
    outline, backbone = load_outline(family), load_backbone(family)
    for build in ARCHITECTURES.values():
        found = [training_flops(model, build(model.layers), ModulesConfig(), 3) for model in (outline, backbone)]
        assert found[0] == found[1]
        assert found[0].per_token > 0


def test_operations_by_hand():
    flops = TrainingFlops(per_step=1, per_pass=10, per_example=100, per_token=1000, per_pair=10_000)
    parts = [np.array([2, 3]), np.array([1])]
    # two examples of three tokens, padding included, and one of one token
    assert flops.of_step(parts) == 1 + (10 + 2 * (100 + 3 * 1000 + 9 * 10_000)) + (10 + 100 + 1000 + 10_000)


def test_operations_of_a_recipe_are_about_those_of_the_job(backbone, task):
    job = make_job(backbone, task, epochs=3, evaluate="none", batch_size=5)
    flops = training_flops(backbone, job.architecture, job.modules, 2)
    expected = flops.of_training(task.train.lengths, job.training, micro_batches=2)
    assert train_alone(job, backbone, task).result.cost.flops == pytest.approx(expected, rel=0.02)


def test_operations_are_about_what_one_expects_by_hand(backbone, task):
    job = make_job(backbone, task, epochs=1, evaluate="none", architecture=filled(backbone.layers, "lora"))
    tokens = int(task.train.lengths.sum())
    weights = backbone.layers * (4 * 32 * 32 + 2 * 32 * 64)
    # forward and backward of frozen weights, two operations each; padding, attention and LoRA come on top
    assert 0.9 < train_alone(job, backbone, task).result.cost.flops / (4 * weights * tokens) < 1.6


def test_operations_grow_with_the_tokens(backbone, task):
    def flops(**changes):
        return train_alone(make_job(backbone, task, evaluate="none", **changes), backbone, task).result.cost.flops

    assert flops(epochs=4, train_size=48) == pytest.approx(4 * flops(epochs=1, train_size=48), rel=0.15)
