import pytest
from tiny import filled
from torch.utils.flop_counter import FlopCounterMode
from training_toys import make_job, train_alone

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.training import encode_task


def test_cost_counts_examples_and_steps(backbone, task):
    cost = train_alone(make_job(backbone, task, epochs=3, train_size=40), backbone, task).result.cost
    assert cost.train_examples == 3 * 40
    assert cost.eval_examples == 3 * len(task.dev)
    assert cost.steps == 3 * 3
    assert 0 < cost.wall_seconds < 60
    assert cost.device_seconds == cost.wall_seconds
    assert cost.peak_memory_bytes > 50 * 2**20


@pytest.mark.parametrize("types", [("lora", "pfeiffer"), ("dora",), ()])
def test_operations_are_those_of_the_whole_training(backbone, task, types):
    architecture = filled(backbone.layers, *types)
    job = make_job(backbone, task, epochs=2, evaluate="none", architecture=architecture)
    with FlopCounterMode(display=False) as counter:
        cost = train_alone(job, backbone, task).result.cost
    assert cost.flops == pytest.approx(counter.get_total_flops(), rel=0.2)


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


def test_attention_is_counted_on_a_cpu(tiny_llama, task):
    # no dropout in attention: torch takes a fused kernel, which its counter does not know
    backbone = load_backbone(tiny_llama)
    assert backbone.model.config._attn_implementation == "sdpa"
    encoded = encode_task(task.data, backbone, 32)
    job = make_job(backbone, encoded, epochs=1, evaluate="none", train_size=16, micro_batches=1)
    fused = train_alone(job, backbone, encoded).result.cost.flops
    try:
        backbone.model.config._attn_implementation = "eager"
        eager = train_alone(job, backbone, encoded).result.cost.flops
    finally:
        backbone.model.config._attn_implementation = "sdpa"
    assert fused == pytest.approx(eager, rel=0.05)
