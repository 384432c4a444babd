"""AdaLoRA in our loop against HF PEFT's own model, and what its allocator means for the choice of an epoch."""

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from by_hand import plain_model, train_by_hand
from peft import AdaLoraConfig
from peft.tuners.adalora import AdaLoraModel
from tiny import filled
from training_toys import make_job, measured_again, train_alone

from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.modules import AdaptedBackbone, module_cost
from prunepeft_ray.training import SoloGroup, encode_task, train
from prunepeft_ray.training.checkpoint import pack, unpack
from prunepeft_ray.training.loop import _Run

CALM = ModulesConfig(lora_dropout=0.0)
RATES = {"PA": 0.01, "head": 0.01}


def adalora_job(backbone, task, **changes):
    settings = {"learning_rates": RATES, "train_size": 64} | changes
    return make_job(backbone, task, architecture=filled(backbone.layers, "adalora"), **settings)


def pefts_own(backbone, job, steps):
    """HF PEFT's model, started as ours, and its parameters by our names."""
    with AdaptedBackbone(backbone, job.architecture, job.modules, 2, job.seed) as adapted:
        start = adapted.state()
    model = plain_model(backbone, 2, job.seed)
    config = AdaLoraConfig(
        init_r=6,
        target_r=4,
        lora_alpha=6,
        lora_dropout=0.0,
        total_step=steps,
        tinit=round(0.1 * steps),
        tfinal=round(0.5 * steps),
        target_modules=["query", "value"],
    )
    peft = AdaLoraModel(model, config, "default")
    model.classifier.requires_grad_(True)
    parameters = {}
    for layer, block in enumerate(model.bert.encoder.layer):
        for site in ("query", "value"):
            matrices = getattr(block.attention.self, site)
            for part in ("lora_A", "lora_B", "lora_E"):
                parameters[f"PA.{layer}.{site}.{part}.default"] = getattr(matrices, part)["default"]
    head = {f"head.classifier.{name}": p for name, p in model.classifier.named_parameters()}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(start[name])
    return peft, parameters, head


@pytest.mark.parametrize("epochs", [4, 1])
def test_it_equals_hf_pefts_own_model(calm_backbone, task, epochs):
    encoded = encode_task(task.data, calm_backbone, 32)
    settings = {"epochs": epochs, "modules": CALM, "evaluate": "none", "train_size": 96, "micro_batches": 1}
    job = adalora_job(calm_backbone, encoded, **settings)
    steps = epochs * math.ceil(96 / 16)
    peft, parameters, head = pefts_own(calm_backbone, job, steps)
    groups = [{"params": list(found.values()), "lr": 0.01} for found in (parameters, head)]
    train_by_hand(peft, groups, job, encoded, peft.update_and_allocate)
    trained = train_alone(job, calm_backbone, encoded)
    assert trained.state.keys() == (parameters | head).keys()
    for name, tensor in trained.state.items():
        torch.testing.assert_close(tensor, (parameters | head)[name].detach(), rtol=0, atol=1e-5, msg=name)
    pattern = {
        name.split("layer.")[1].replace(".attention.self.", ".").removesuffix(".default"): kept
        for name, kept in peft.peft_config["default"].rank_pattern.items()
    }
    mine = {
        name.removeprefix("PA.").removesuffix(".default"): tensor.flatten().ne(0).tolist()
        for name, tensor in trained.state.items()
        if "lora_E" in name
    }
    assert mine == pattern
    assert sum(map(sum, mine.values())) == 4 * 8
    # not the same everywhere, else this would tell little
    assert len({sum(kept) for kept in mine.values()}) > 1


def test_what_it_reports_is_what_is_left_and_within_the_architectures_size(backbone, task):
    job = adalora_job(backbone, task, epochs=3, test=True)
    trained = train_alone(job, backbone, task)
    ranks = sum(int(tensor.count_nonzero()) for name, tensor in trained.state.items() if "lora_E" in name)
    assert trained.result.parameters == ranks * (32 + 32 + 1)
    most = sum(module_cost(backbone, slot, "adalora").parameters(module.size) for slot, module in job.architecture)
    assert trained.result.parameters == most == 4 * 8 * 65
    # the saved weights are those that were measured
    assert measured_again(job, backbone, task.dev, task, trained.state) == trained.result.metrics


@pytest.mark.parametrize(
    ("patience", "accuracies", "best", "epochs"),
    [
        (None, (9, 8, 1, 2, 4, 3), 5, 6),
        (1, (9, 8, 1, 2, 1, 5), 4, 5),
        (2, (9, 8, 7, 6, 5, 4), 3, 5),
    ],
)
def test_an_epoch_in_which_ranks_were_still_to_go_is_never_the_best(
    backbone, task, monkeypatch, patience, accuracies, best, epochs
):
    monkeypatch.setattr(_Run, "_value", lambda run, epoch: accuracies[epoch.epoch - 1])
    # six epochs of two steps: the budget is reached at the sixth step, the third epoch's last
    job = adalora_job(backbone, task, epochs=6, patience=patience, train_size=32)
    trained = train_alone(job, backbone, task)
    assert (trained.result.best_epoch, len(trained.result.epochs)) == (best, epochs)
    assert trained.result.parameters == 4 * 8 * 65


def test_the_penalty_counts_once_however_a_batch_is_split(calm_backbone, task):
    encoded = encode_task(task.data, calm_backbone, 32)

    def weights(micro_batches):
        job = adalora_job(
            calm_backbone, encoded, epochs=1, modules=CALM, evaluate="none", micro_batches=micro_batches, train_size=17
        )
        return train_alone(job, calm_backbone, encoded).state

    whole = weights(1)
    for parts in (2, 5):
        for name, tensor in weights(parts).items():
            torch.testing.assert_close(tensor, whole[name], rtol=0, atol=2e-5, msg=name)


def test_the_train_loss_is_that_of_the_task_alone(calm_backbone, task):
    encoded = encode_task(task.data, calm_backbone, 32)
    subset = encoded.subset(32, 0.0)[0]
    rates = dict.fromkeys(("PA", "head"), 1e-12)
    job = adalora_job(calm_backbone, encoded, epochs=1, modules=CALM, train_size=32, learning_rates=rates)
    result = train_alone(job, calm_backbone, replace(encoded, dev=subset)).result
    assert result.epochs[0].train_loss == pytest.approx(result.metrics["loss"], rel=1e-5)


def test_a_state_from_before_there_were_allocators_is_taken_up(backbone, task):
    class Old:
        def __init__(self):
            self.kept = None

        def begin(self, examples):
            pass

        def before_step(self, examples, batch):
            pass

        def load(self):
            return unpack(self.kept) if self.kept else None

        def wanted(self):
            return False

        def save(self, state):
            self.kept = pack({name: part for name, part in state.items() if name != "allocators"})

    keeper, job = Old(), make_job(backbone, task, train_size=32)
    expected = train(job, backbone, task, SoloGroup(), lambda done, total: None, keeper)
    again = train(job, backbone, task, SoloGroup(), lambda done, total: None, keeper)
    assert again.result.restarts == 1
    assert all(torch.equal(tensor, expected.state[name]) for name, tensor in again.state.items())


def test_a_step_that_overflows_leaves_no_trace_in_what_matters(backbone, task, monkeypatch):
    backward = _Run._backward

    def overflowing(run, *batch):
        loss = backward(run, *batch)
        if run.progress.step == 2:
            for parameter in run.trainable:
                parameter.grad.fill_(torch.inf)
        return loss

    monkeypatch.setattr(_Run, "_backward", overflowing)
    # fp16 as a CPU can do it: the scaler alone
    for room in ("loop", "evaluation"):
        monkeypatch.setattr(f"prunepeft_ray.training.{room}.autocast", lambda precision, device: nullcontext())
    result = train_alone(adalora_job(backbone, task, precision="fp16"), backbone, task).result
    assert result.status == "done"
    assert result.parameters == 4 * 8 * 65
