"""Full fine-tuning in our loop is what one gets by training the model itself."""

import pytest
import torch
from by_hand import plain_model, train_by_hand
from tiny import filled, make_tiny_model
from training_toys import backbone_bytes, make_job, train_alone

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.errors import InputError
from prunepeft_ray.training import encode_task

RATES = {"FT": 1e-3, "head": 0.01}


def full_job(backbone, task, **changes):
    settings = {"learning_rates": RATES, "train_size": 40} | changes
    return make_job(backbone, task, architecture=filled(backbone.layers, "full", size=1), **settings)


@pytest.fixture(params=["bert", "llama"])
def calm(request, tmp_path):
    """A backbone without dropout."""
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if request.param == "bert" else {}
    return load_backbone(str(make_tiny_model(request.param, tmp_path / "model", **calm)))


def test_it_equals_plain_fine_tuning_of_the_model(calm, task):
    encoded = encode_task(task.data, calm, 32)
    job = full_job(calm, encoded, evaluate="none", micro_batches=1)
    model = plain_model(calm, 2, job.seed)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    before = backbone_bytes(calm)
    trained = train_alone(job, calm, encoded)
    assert trained.result.parameters == calm.parameters
    assert backbone_bytes(calm) == before
    model.requires_grad_(True)
    head = [p for name, p in model.named_parameters() if name in calm.head_parameters]
    rest = [p for name, p in model.named_parameters() if name not in calm.head_parameters]
    train_by_hand(model, [{"params": rest, "lr": RATES["FT"]}, {"params": head, "lr": RATES["head"]}], job, encoded)
    # FT.0.bert.embeddings.tuned.word_embeddings.weight: slot, path of the copy, "tuned", the rest of the path
    found = {n.removeprefix("head.").split(".", 2)[-1] if n[:2] == "FT" else n[5:]: t for n, t in trained.state.items()}
    found = {name.replace(".tuned.", "."): tensor for name, tensor in found.items()}
    expected = {name: p.detach() for name, p in model.named_parameters()}
    assert found.keys() == expected.keys()
    moved = 0.0
    for name, tensor in found.items():
        if name.endswith("key.bias"):
            continue  # attention does not depend on it: its gradient is rounding errors, which Adam blows up
        moved = max(moved, float((expected[name] - start[name]).abs().max()))
        # a hundredth of one step: of a gradient that is nearly nothing Adam blows up the rounding, by CPU
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=RATES["FT"] / 100, msg=name)
    assert moved > 1e-3


def test_it_learns(backbone, task):
    result = train_alone(full_job(backbone, task, epochs=3, train_size=None, test=True), backbone, task).result
    assert result.metrics["accuracy"] > 0.9
    assert result.test["accuracy"] > 0.9
    assert result.parameters == backbone.parameters


def test_operations_are_those_of_training_all_weights(backbone, task):
    def flops(architecture):
        job = make_job(backbone, task, epochs=1, evaluate="none", architecture=architecture)
        return train_alone(job, backbone, task).result.cost.flops

    # forward, gradients of inputs and of weights; without the last of the three where weights are frozen
    full, lora = (flops(filled(backbone.layers, kind, size=1)) for kind in ("full", "lora"))
    assert 1.3 < full / lora < 1.6


@pytest.mark.parametrize(("module", "slot"), [("full", "FT.0"), ("adalora", "PA.0")])
def test_criteria_need_an_update_that_can_be_seen(backbone, task, module, slot):
    job = make_job(backbone, task, architecture=filled(backbone.layers, module), collect=("weight",))
    with pytest.raises(InputError, match=f"slot {slot}: criteria cannot be collected for '{module}' modules"):
        train_alone(job, backbone, task)
    assert not backbone.adapted
