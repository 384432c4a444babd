import math

import pytest
import torch
from tiny import filled
from training_toys import make_job, train_alone

from prunepeft_ray.config import ModulesConfig, TrainingConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.modules import AdaptedBackbone
from prunepeft_ray.training.optimiser import autocast, build_optimiser, build_schedule

CPU = torch.device("cpu")
RATES = {"PA": 0.001, "SA": 0.002, "head": 0.003}


@pytest.mark.parametrize("types", [("lora", "pfeiffer"), ("dora", "houlsby"), ("lora",), ()])
def test_every_trainable_parameter_learns_at_its_own_kinds_rate(backbone, types):
    recipe = TrainingConfig(learning_rates=RATES, weight_decay=0.5)
    with AdaptedBackbone(backbone, filled(backbone.layers, *types), ModulesConfig(), 2, seed=0) as adapted:
        groups = build_optimiser(adapted.trainable, recipe).param_groups
        rates = [(id(p), group["lr"]) for group in groups for p in group["params"]]
        expected = {id(p): RATES[slot.kind] for slot, found in adapted.slot_parameters.items() for p in found}
        expected |= {id(p): RATES["head"] for p in backbone.head_parameters.values()}
        trainable = {id(p) for p in backbone.model.parameters() if p.requires_grad}
    assert len(rates) == len(dict(rates))
    assert dict(rates) == expected
    assert trainable == set(expected)
    assert {group["weight_decay"] for group in groups} == {0.5}


def rates(schedule, warmup_share=0.2, steps=10):
    parameter = torch.nn.Parameter(torch.zeros(1))
    recipe = TrainingConfig(schedule=schedule, warmup_share=warmup_share, learning_rates={"PA": 2.0})
    optimiser = build_optimiser({"PA.0.x": parameter}, recipe)
    built = build_schedule(optimiser, recipe, steps)
    seen = []
    for _ in range(steps):
        seen.append(optimiser.param_groups[0]["lr"])
        parameter.grad = torch.zeros(1)
        optimiser.step()
        built.step()
    return seen


def test_the_linear_schedule_rises_then_falls_to_nothing():
    expected = [0.0, 1.0, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25]
    assert rates("linear") == pytest.approx(expected)


def test_the_cosine_schedule_rises_then_falls_like_a_cosine():
    expected = [0.0, 1.0, *(1 + math.cos(math.pi * step / 8) for step in range(8))]
    assert rates("cosine") == pytest.approx(expected)
    assert rates("cosine")[6] == pytest.approx(1.0)


def test_the_constant_schedule_rises_then_stays():
    assert rates("constant") == pytest.approx([0.0, 1.0, *[2.0] * 8])


def test_without_a_warm_up_a_schedule_starts_at_its_peak():
    assert rates("linear", warmup_share=0.0)[:2] == pytest.approx([2.0, 1.8])


def test_half_precision_without_a_gpu_is_wrong_input(backbone, task):
    with pytest.raises(InputError, match=r"training\.precision: fp16 requires a GPU"):
        autocast("fp16", CPU)
    with pytest.raises(InputError, match="fp16"):
        train_alone(make_job(backbone, task, precision="fp16"), backbone, task)
    assert not backbone.adapted


@pytest.mark.parametrize(("precision", "dtype"), [("auto", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_asked_precision(precision, dtype):
    with autocast(precision, CPU):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


def test_bf16_trains_on_a_cpu(backbone, task):
    rates = {"PA": 0.03, "SA": 0.03, "head": 0.03}
    settings = {"epochs": 3, "learning_rates": rates, "collect": ("gate", "gradient")}
    exact = train_alone(make_job(backbone, task, **settings), backbone, task)
    rough = train_alone(make_job(backbone, task, precision="bf16", **settings), backbone, task)
    assert rough.result.metrics["accuracy"] > 0.9
    assert rough.result.epochs[0].train_loss != exact.result.epochs[0].train_loss
    assert rough.result.epochs[0].train_loss == pytest.approx(exact.result.epochs[0].train_loss, rel=0.1)
    assert {tensor.dtype for tensor in rough.state.values()} == {torch.float32}
    assert min(rough.result.scores["gradient"].values()) > 0
