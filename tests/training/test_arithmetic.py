"""What decides the bits of a result besides the job: the digest of what it computes with."""

import dataclasses

import pytest
import torch

from prunepeft_ray.backbones import read_backbone
from prunepeft_ray.config import TaskConfig
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import content_digest, encode_task


@pytest.fixture(scope="module")
def data(small_task):
    return load_task(TaskConfig(name=str(small_task)))


@pytest.fixture
def backbone(tiny_bert):
    """One of our own, to change."""
    return read_backbone(tiny_bert)


def digest(backbone, data, length=32):
    return content_digest(backbone, encode_task(data, backbone, length))


def test_two_loads_of_a_model_have_the_same_digest_although_heads_are_random(backbone, data, tiny_bert):
    again = read_backbone(tiny_bert)
    for weights in again.head_parameters.values():
        weights.data += 1
    assert digest(again, data) == digest(backbone, data)


def test_training_any_tensor_of_the_backbone_changes_it(backbone, data):
    before = digest(backbone, data)
    frozen = [p for name, p in backbone.model.named_parameters() if name not in backbone.head_parameters]
    for weights in (frozen[0], frozen[len(frozen) // 2], frozen[-1]):
        kept = weights.data.clone()
        weights.data += 1e-3
        assert digest(backbone, data) != before
        weights.data.copy_(kept)
    assert digest(backbone, data) == before


def test_another_precision_of_the_weights_changes_it(backbone, data):
    before = digest(backbone, data)
    backbone.model.to(torch.bfloat16)
    assert digest(backbone, data) != before


def test_another_tokenizer_changes_it_and_so_does_a_cut(backbone, data):
    before = digest(backbone, data)
    assert digest(backbone, data, 4) != before
    words = backbone.tokenizer

    def other(*texts, **settings):
        encoded = words(*texts, **settings)
        encoded["input_ids"] = encoded["input_ids"][:, ::-1].copy()
        return encoded

    other.model_max_length = words.model_max_length
    backbone.tokenizer = other
    assert digest(backbone, data) != before


def test_another_label_changes_it(backbone, data):
    task = encode_task(data, backbone, 32)
    labels = task.dev.labels.clone()
    labels[-1] = 1 - labels[-1]
    other = dataclasses.replace(task, dev=dataclasses.replace(task.dev, labels=labels))
    assert content_digest(backbone, other) != content_digest(backbone, task)
