"""Prefixes train through a network that nothing outside of the training sees."""

from dataclasses import replace

import torch
from tiny import filled
from training_toys import make_job, measured_again, train_alone

from prunepeft_ray.modules.prefix import HIDDEN

SIZE = 4


def prefix_job(backbone, task, **changes):
    return make_job(
        backbone, task, architecture=filled(backbone.layers, "prefix", size=SIZE), test=True, epochs=3, **changes
    )


def test_what_is_counted_kept_and_measured_again_are_the_vectors(backbone, task):
    job = prefix_job(backbone, task, collect=("weight", "gradient"))
    trained = train_alone(job, backbone, task)
    width = backbone.width(0, "attention")[0]
    assert trained.result.parameters == backbone.layers * 2 * SIZE * width
    own = {name: tensor for name, tensor in trained.state.items() if not name.startswith("head.")}
    assert {tuple(tensor.shape) for tensor in own.values()} == {(SIZE, width)}
    assert {name.rsplit(".", 1)[1] for name in own} == {"keys", "values"}
    assert measured_again(job, backbone, task.dev, task, trained.state) == trained.result.metrics
    assert measured_again(job, backbone, task.tests[""], task, trained.state) == trained.result.test


def test_criteria_look_at_the_vectors_that_are_kept(backbone, task):
    job = replace(prefix_job(backbone, task, collect=("weight",)), evaluate="none")
    trained = train_alone(job, backbone, task)
    for slot, theta in trained.result.scores["weight"].items():
        kept = torch.cat([tensor.flatten() for name, tensor in trained.state.items() if name.startswith(f"{slot}.")])
        assert abs(theta - kept.square().mean()) < 1e-6


def test_the_network_is_what_the_optimiser_changes(backbone, task, monkeypatch):
    seen = []
    build = torch.optim.AdamW

    def watch(groups, **settings):
        seen.extend(p.numel() for group in groups for p in group["params"])
        return build(groups, **settings)

    monkeypatch.setattr(torch.optim, "AdamW", watch)
    train_alone(prefix_job(backbone, task), backbone, task)
    width = backbone.width(0, "attention")[0]
    network = SIZE * width + (width + 1) * HIDDEN + (HIDDEN + 1) * 2 * width
    assert sum(seen) == backbone.layers * network + sum(p.numel() for p in backbone.head_parameters.values())
