"""Damaged and hostile adapters: every one is refused in one clear line, wherever it is used."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import filled

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.cli.main import run
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.errors import MAX_MESSAGE, InputError
from prunepeft_ray.modules import AdaptedBackbone, AdapterConfig, save_adapter
from prunepeft_ray.training import load_adapter

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def run_folder(tiny_bert, tmp_path):
    """A run's folder with an adapter that works."""
    backbone = load_backbone(tiny_bert)
    config = AdapterConfig(
        model=tiny_bert,
        model_fingerprint=backbone.fingerprint,
        task="packaged:movie",
        labels=("bad", "good"),
        metrics=("accuracy", "f1"),
        max_length=32,
        architecture=filled(4, "lora", "pfeiffer"),
        modules=ModulesConfig(),
    )
    with AdaptedBackbone(backbone, config.architecture, config.modules, 2, seed=0) as adapted:
        save_adapter(tmp_path / "run" / "adapter", adapted.state(), config, "# card\n")
    return tmp_path / "run"


def with_config(**changes):
    """Spoil the configuration."""

    def spoil(folder):
        data = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        (folder / CONFIG).write_text(json.dumps(data | changes), encoding="utf-8")

    return spoil


def with_slot(**changes):
    """Spoil the first slot of the architecture."""

    def spoil(folder):
        slots = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["architecture"]["slots"]
        with_config(architecture={"slots": [slots[0] | changes, *slots[1:]]})(folder)

    return spoil


def with_text(name, content):
    """Put other content in the place of a file's."""
    return lambda folder: (folder / name).write_bytes(content)


def with_weights(change):
    """Spoil the weights, which ``change`` is given by name."""

    def spoil(folder):
        state = load_file(folder / WEIGHTS)
        change(state, min(state))
        save_file(state, folder / WEIGHTS)

    return spoil


def put(value):
    """Spoil one weight."""
    return with_weights(lambda state, name: state[name].view(-1)[:1].fill_(value))


def without(key):
    """Leave a key of the configuration out."""

    def spoil(folder):
        data = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        del data[key]
        (folder / CONFIG).write_text(json.dumps(data), encoding="utf-8")

    return spoil


def linked(name):
    """Put a link that leads out of the adapter in the place of a file."""

    def spoil(folder):
        outside = folder.parent.parent / name
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return spoil


def linked_whole(folder):
    folder.rename(folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


def linked_in_a_circle(folder):
    (folder / CONFIG).unlink()
    (folder / CONFIG).symlink_to(folder / CONFIG)


def much_too_large(folder):
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(2**40)


def use(folder):
    """Predict something with an adapter."""
    predictor = load_adapter(folder)
    try:
        return predictor.predict(["love", "love is a long word among words"])
    finally:
        predictor.close()


BAD = {
    "negative length": (with_config(max_length=-1), "max_length"),
    "length of zero": (with_config(max_length=0), "max_length"),
    "text as length": (with_config(max_length="long"), "max_length"),
    "digits as length": (with_config(max_length="32"), "max_length"),
    "length of NaN": (with_config(max_length=float("nan")), "max_length"),
    "infinite length": (with_config(max_length=float("inf")), "max_length"),
    "fractional length": (with_config(max_length=1.5), "max_length"),
    "true as length": (with_config(max_length=True), "max_length"),
    "no length": (without("max_length"), "'max_length' is missing"),
    "number as model": (with_config(model=5), "model"),
    "nothing as model": (with_config(model=None), "model"),
    "list as model": (with_config(model=["x"]), "model"),
    "missing model": (with_config(model="./not/there"), "no such folder"),
    "number as fingerprint": (with_config(model_fingerprint=1), "model_fingerprint"),
    "other fingerprint": (with_config(model_fingerprint="x" * 10**6), "different weights"),
    "number as task": (with_config(task=1), "task"),
    "text as labels": (with_config(labels="ab"), "labels"),
    "numbers as labels": (with_config(labels=[0, 1]), "labels"),
    "very many labels": (with_config(labels=[str(i) for i in range(90_000)]), "need 2,"),
    "too many labels": (with_config(labels=["a", "b", "c"]), "need 3,312 weights"),
    "no metric": (with_config(metrics=[]), "metrics"),
    "unknown metric": (with_config(metrics=["accurracy"]), "did you mean 'accuracy'"),
    "metric of numbers": (with_config(metrics=["pearson"]), "'pearson' does not suit"),
    "unknown key": (with_config(surprise=1), "unknown key 'surprise'"),
    "other format": (with_config(format=2), "format 2 is not supported"),
    "list as format": (with_config(format=[[[[1]]]] * 10**4), "is not supported"),
    "bad modules": (with_config(modules={"lora_alpha": -1}), "lora_alpha"),
    "alpha of NaN": (with_config(modules={"lora_alpha": float("nan")}), "lora_alpha"),
    "no architecture": (with_config(architecture=None), "architecture"),
    "empty mapping as architecture": (with_config(architecture={}), "not an architecture"),
    "text as slots": (with_config(architecture={"slots": "abc"}), "not an architecture"),
    "huge size": (with_slot(size=10**9), "its architecture and labels need"),
    "huger size": (with_slot(size=10**300), "its architecture and labels need"),
    "infinite size": (with_slot(size=float("inf")), "not an integer"),
    "negative size": (with_slot(size=-1), "must be at least 1"),
    "smaller size": (with_slot(size=1), "a different shape"),
    "layer too high": (with_slot(layer=4), "does not exist"),
    "negative layer": (with_slot(layer=-1), "there is no slot of kind 'PA' at layer -1"),
    "unknown kind": (with_slot(kind="XX"), "of kind 'XX'"),
    "unknown module": (with_slot(module="lorra"), "did you mean 'lora'"),
    "module of another kind": (with_slot(module="pfeiffer"), "cannot hold"),
    "deep JSON": (with_text(CONFIG, DEEP.encode()), "nested deeper"),
    "deep architecture": (with_text(CONFIG, b'{"format": 1, "architecture": ' + DEEP.encode() + b"}"), "nested deeper"),
    "large JSON": (with_text(CONFIG, b'"' + b"x" * 2**23 + b'"'), "larger than 4 MiB"),
    "no JSON": (with_text(CONFIG, b"{"), CONFIG),
    "no text": (with_text(CONFIG, b"\xff\xfe\x00"), CONFIG),
    "no mapping": (with_text(CONFIG, b"[]"), "not a mapping"),
    "no weights": (with_text(WEIGHTS, b""), WEIGHTS),
    "damaged weights": (with_text(WEIGHTS, b"\xff" * 1000), WEIGHTS),
    "much too large weights": (much_too_large, "larger than"),
    "NaN": (put(float("nan")), "not finite"),
    "infinity": (put(float("inf")), "not finite"),
    "minus infinity": (put(float("-inf")), "not finite"),
    "whole numbers": (with_weights(lambda state, name: state.update({name: state[name].int()})), "torch.int32"),
    "double numbers": (with_weights(lambda state, name: state.update({name: state[name].double()})), "torch.float64"),
    "missing weights": (with_weights(lambda state, name: state.pop(name)), "weights"),
    "other weights": (
        with_weights(lambda state, name: state.update(more=torch.ones(1))),
        "'more' is missing or un",
    ),
    "other shape": (
        with_weights(lambda state, name: state.update({name: state[name].T.contiguous()})),
        "a different shape",
    ),
    "exploding scale": (with_config(modules={"lora_alpha": 1e308}), "non-finite"),
    "adapter linked": (linked_whole, "leads out of"),
    "configuration linked": (linked(CONFIG), "leads out of"),
    "weights linked": (linked(WEIGHTS), "leads out of"),
    "link in a circle": (linked_in_a_circle, "contains no adapter"),
}


@pytest.mark.parametrize(("spoil", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_adapter_is_refused_in_one_line(run_folder, tiny_bert, spoil, reason):
    spoil(run_folder / "adapter")
    with pytest.raises(InputError) as caught:
        use(run_folder)
    message = str(caught.value)
    assert reason in message
    assert "\n" not in message
    assert len(message) <= MAX_MESSAGE
    assert not load_backbone(tiny_bert).adapted


@pytest.mark.parametrize(
    "name", ["text as length", "unknown metric", "huge size", "NaN", "adapter linked", "deep JSON"]
)
@pytest.mark.parametrize(
    "command", [["predict", "--input", "love"], ["evaluate", "--task", "packaged:movie"]], ids=lambda words: words[0]
)
def test_commands_say_so_and_end_with_2(run_folder, capsys, command, name):
    spoil, reason = BAD[name]
    spoil(run_folder / "adapter")
    assert run([command[0], str(run_folder), *command[1:]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert reason in err


def test_an_adapter_that_was_linked_by_its_user_is_used(run_folder, tmp_path):
    (tmp_path / "mine").symlink_to(run_folder / "adapter")
    use(tmp_path / "mine")
    (tmp_path / "run of mine").symlink_to(run_folder)
    use(tmp_path / "run of mine")


@pytest.mark.parametrize("length", [1, 2, 3, 10**30])
def test_any_length_that_a_search_may_have_had_is_used(run_folder, length):
    with_config(max_length=length)(run_folder / "adapter")
    assert len(use(run_folder)) == 2
