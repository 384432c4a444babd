"""A backbone stored in bf16 trains to the same bits as one in fp32, in half the memory."""

import pytest
import torch
from tiny import filled
from training_toys import content, make_job, toy_task, train_alone

from prunepeft_ray.backbones import read_backbone
from prunepeft_ray.execution.workbench import place
from prunepeft_ray.modules import AdaptedBackbone
from prunepeft_ray.training import encode_task
from prunepeft_ray.training.optimiser import autocast

CPU = torch.device("cpu")
TYPES = [("lora", "pfeiffer", "parallel", "prefix"), ("adalora", "houlsby")]


@pytest.fixture(params=["bert", "roberta", "llama"])
def path(request, tiny_models):
    return tiny_models[request.param]


def size(backbone):
    return sum(parameter.numel() * parameter.element_size() for parameter in backbone.model.parameters())


def test_only_frozen_linear_layers_are_stored_in_half_precision(path):
    backbone = read_backbone(path)
    whole, parameters = size(backbone), backbone.parameters
    place(backbone, "bf16", CPU)
    half = {name for name, parameter in backbone.model.named_parameters() if parameter.dtype == torch.bfloat16}
    frozen = {name for name, _ in backbone.model.named_parameters()} - backbone.head_parameters.keys()
    assert half == {name for name in frozen if "norm" not in name.lower() and "embed" not in name}
    halved = sum(p.numel() for name, p in backbone.model.named_parameters() if name in half)
    assert size(backbone) == whole - 2 * halved
    assert backbone.parameters == parameters


@pytest.mark.parametrize("types", TYPES)
def test_training_has_the_bits_of_a_backbone_in_fp32(path, types):
    trained = []
    for stored in ("fp32", "bf16"):
        backbone = place(read_backbone(path), stored, CPU)
        task = encode_task(toy_task(train=24), backbone, 32)
        architecture = filled(backbone.layers, *types)
        collect = () if "adalora" in types else ("gate", "gradient", "activation")
        job = make_job(
            backbone, task, epochs=1, precision="bf16", test=True, architecture=architecture, collect=collect
        )
        trained.append(content(train_alone(job, backbone, task)))
    assert trained[0] == trained[1]


@pytest.mark.parametrize("module", ["dora", "full"])
def test_what_reads_the_weights_themselves_starts_from_the_rounded_ones(tiny_bert, module):
    backbone = place(read_backbone(tiny_bert), "bf16", CPU)
    task = encode_task(toy_task(), backbone, 32)
    architecture = filled(backbone.layers, module, size=1)
    rates = {"PA": 0.03, "FT": 1e-3, "head": 0.03}
    job = make_job(backbone, task, precision="bf16", epochs=4, architecture=architecture, learning_rates=rates)
    trained = train_alone(job, backbone, task)
    assert {tensor.dtype for tensor in trained.state.values()} == {torch.float32}
    assert trained.result.metrics["accuracy"] > 0.8


@pytest.mark.parametrize("types", [*TYPES, ("dora",), ("full",)])
def test_inserting_modules_leaves_the_stored_weights_alone(path, types):
    backbone = place(read_backbone(path), "bf16", CPU)
    before = {name: parameter.data_ptr() for name, parameter in backbone.model.named_parameters()}
    job = make_job(backbone, encode_task(toy_task(train=8), backbone, 32))
    with AdaptedBackbone(backbone, filled(backbone.layers, *types, size=1), job.modules, 2, 0) as adapted:
        assert {parameter.dtype for parameter in adapted.trainable.values()} == {torch.float32}
    after = {name: parameter.data_ptr() for name, parameter in backbone.model.named_parameters()}
    head = backbone.head_parameters
    assert {n: p for n, p in after.items() if n not in head} == {n: p for n, p in before.items() if n not in head}


@pytest.mark.gpu
def test_a_gpu_stores_the_backbone_as_it_computes(path):
    device = torch.device("cuda")
    whole = place(read_backbone(path), "fp32", device)
    stored = place(read_backbone(path), "auto", device)
    assert size(stored) < size(whole)
    inputs = {"input_ids": torch.arange(8, device=device)[None]}
    with torch.no_grad(), autocast("auto", device):
        logits = [backbone.model(**inputs).logits for backbone in (whole, stored)]
    # the heads differ until a job initialises them
    assert logits[0].dtype == logits[1].dtype
    losses = []
    for backbone in (whole, stored):
        task = encode_task(toy_task(train=24), backbone, 32)
        losses.append(train_alone(make_job(backbone, task, epochs=1), backbone, task).result.epochs[0].train_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
