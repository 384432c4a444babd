"""What the training tests share: a tiny backbone and the toy task as token ids."""

import pytest
from tiny import make_tiny_model
from training_toys import toy_task

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.training import encode_task


@pytest.fixture(scope="session")
def backbone(tiny_bert):
    return load_backbone(tiny_bert)


@pytest.fixture(scope="session")
def task(backbone):
    """The toy task with two classes."""
    return encode_task(toy_task(), backbone, 32)


@pytest.fixture(scope="session")
def regression_task(backbone):
    return encode_task(toy_task(regression=True, train=192), backbone, 32)


@pytest.fixture(scope="session")
def calm_backbone(tmp_path_factory):
    """A backbone without any dropout of its own."""
    folder = tmp_path_factory.mktemp("calm") / "bert"
    make_tiny_model("bert", folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return load_backbone(str(folder))
