import json

import pytest
import torch
from safetensors import safe_open
from tiny import filled

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.modules import (
    AdaptedBackbone,
    AdapterConfig,
    read_adapter_config,
    read_adapter_weights,
    save_adapter,
)

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def make_config(architecture, labels=("bad", "good")):
    return AdapterConfig(
        model="packaged:minilm",
        model_fingerprint="0123456789abcdef",
        task="packaged:movie",
        labels=labels,
        metrics=("accuracy", "loss"),
        max_length=64,
        architecture=architecture,
        modules=ModulesConfig(init="paper", lora_alpha=16),
    )


def read(folder, model):
    """Read an adapter, configuration and weights."""
    config = read_adapter_config(folder)
    return config, read_adapter_weights(folder, config, load_backbone(model))


@pytest.fixture
def saved(tiny_bert, tmp_path):
    """A saved adapter: folder, configuration and weights."""
    config = make_config(filled(2, "lora", "houlsby"))
    with AdaptedBackbone(load_backbone(tiny_bert), config.architecture, config.modules, 2, seed=0) as adapted:
        state = adapted.state()
        names = set(adapted.trainable)
    save_adapter(tmp_path / "deep" / "adapter", state, config, "# A card\n")
    assert set(state) == names
    return tmp_path / "deep" / "adapter", config, state


def refusal(folder, model=None):
    with pytest.raises(InputError) as caught:
        read(folder, model)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def change_config(folder, **changes):
    data = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(data | changes))


def test_what_is_loaded_is_what_was_saved(saved, tiny_bert):
    folder, config, state = saved
    loaded, weights = read(folder, tiny_bert)
    assert loaded == config
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], value) for name, value in state.items())


def test_the_folder_holds_safetensors_json_and_a_card_and_nothing_else(saved):
    folder, _, state = saved
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", CONFIG, WEIGHTS]
    assert (folder / "README.md").read_text() == "# A card\n"
    with safe_open(folder / WEIGHTS, "pt") as file:
        # nothing of the frozen backbone
        assert set(file.keys()) == set(state)
        assert not [name for name in file.keys() if "base_layer" in name]  # noqa: SIM118


@pytest.mark.parametrize(("labels", "outputs"), [((), 1), (("a", "b"), 2), (("a", "b", "c"), 3)])
def test_number_of_outputs(labels, outputs):
    assert make_config(filled(1, "lora"), labels).num_outputs == outputs


def test_a_saved_adapter_can_be_overwritten(saved, tiny_bert):
    folder, config, state = saved
    save_adapter(folder, {name: value + 1 for name, value in state.items()}, config, "")
    _, weights = read(folder, tiny_bert)
    assert all(torch.equal(weights[name], value + 1) for name, value in state.items())


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_a_folder_that_lacks_a_file_is_refused(saved, missing):
    folder, *_ = saved
    (folder / missing).unlink()
    assert "contains no adapter" in refusal(folder)


def test_a_missing_folder_is_refused(tmp_path):
    assert "contains no adapter" in refusal(tmp_path / "nothing")


def test_another_format_is_refused_and_named(saved):
    folder, *_ = saved
    change_config(folder, format=2)
    assert "format 2 is not supported; expected 1" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"5", b"null", b"{}", b"\xff\xfe\x00"])
def test_a_damaged_configuration_is_refused(saved, content):
    folder, *_ = saved
    (folder / CONFIG).write_bytes(content)
    refusal(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": {"slots": [{"layer": 0}]}},
        {"architecture": None},
        {"modules": {"init": "other"}},
        {"modules": {"unknown": 1}},
        {"labels": 5},
        {"metrics": None},
        {"surprise": 1},
    ],
)
def test_a_configuration_with_wrong_content_is_refused(saved, changes):
    folder, *_ = saved
    change_config(folder, **changes)
    refusal(folder)


def test_truncated_weights_are_refused(saved, tiny_bert):
    folder, *_ = saved
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    assert "damaged" in refusal(folder, tiny_bert)


def test_a_pickle_in_place_of_weights_is_refused(saved, tiny_bert):
    folder, _, state = saved
    torch.save(state, folder / WEIGHTS)
    assert "damaged" in refusal(folder, tiny_bert)
