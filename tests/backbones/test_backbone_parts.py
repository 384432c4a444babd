import pickle

import pytest
import torch
from tiny import make_tiny_model

from prunepeft_ray.backbones import SITES, load_backbone, load_outline

FAMILY_NAMES = ("bert", "roberta", "llama")


@pytest.fixture(params=FAMILY_NAMES)
def backbone(request, tiny_models):
    return load_backbone(tiny_models[request.param])


@pytest.fixture
def own_bert(tmp_path):
    """A backbone that no other test shares."""
    return load_backbone(str(make_tiny_model("bert", tmp_path)))


def call(backbone):
    inputs = backbone.tokenizer("the film is great", return_tensors="pt")
    with torch.no_grad():
        return backbone.model(**inputs, output_hidden_states=True)


def add_to_output(module, change):
    def add(_module, _inputs, output):
        return (output[0] + change, *output[1:]) if isinstance(output, tuple) else output + change

    return module.register_forward_hook(add)


def capture(module, into, name):
    def keep(_module, inputs, output):
        into[name] = (inputs[0], output[0] if isinstance(output, tuple) else output)

    return module.register_forward_hook(keep)


@pytest.mark.parametrize("name", SITES)
def test_every_layer_has_every_site(backbone, name):
    found = set()
    for layer in range(backbone.layers):
        parent, attribute = backbone.site(layer, name)
        assert isinstance(getattr(parent, attribute), torch.nn.Module)
        found.add(id(parent))
    assert len(found) == backbone.layers


@pytest.mark.parametrize("name", SITES)
def test_a_site_of_a_layer_influences_that_layer_and_none_below(backbone, name):
    before = call(backbone).hidden_states
    change = torch.randn(backbone.width(2, name)[1], generator=torch.Generator().manual_seed(0))
    handle = add_to_output(getattr(*backbone.site(2, name)), change)
    try:
        after = call(backbone).hidden_states
    finally:
        handle.remove()
    # hidden_states[l] is the input of layer l
    assert all(torch.equal(a, b) for a, b in zip(before[:3], after[:3], strict=True))
    assert not torch.allclose(before[3], after[3], atol=1e-3)


@pytest.mark.parametrize("name", ["query", "value"])
def test_projections_read_what_the_attention_reads_and_have_the_stated_widths(backbone, name):
    widths = {"query": (32, 32), "value": (32, 16 if backbone.family.name == "Llama" else 32)}
    seen = {}
    projection = getattr(*backbone.site(1, name))
    handle = capture(projection, seen, name)
    hidden = call(backbone).hidden_states[1]
    handle.remove()
    given, output = seen[name]
    assert backbone.width(1, name) == (given.shape[-1], output.shape[-1]) == widths[name]
    norm = getattr(backbone.model.get_submodule(backbone.family.layers)[1], "input_layernorm", torch.nn.Identity())
    assert torch.equal(given, norm(hidden))


def test_query_and_value_are_not_mixed_up(backbone):
    # a constant added to all values of a head passes through the attention's weighted mean, which sums to one,
    # whereas a shift of the queries changes only the weights
    layer = backbone.model.get_submodule(backbone.family.layers)[0]
    llama = backbone.family.name == "Llama"
    after_attention = layer.self_attn.o_proj if llama else layer.attention.output.dense
    seen = {}
    tap = capture(after_attention, seen, "before")
    call(backbone)
    tap.remove()
    shift = add_to_output(getattr(*backbone.site(0, "value")), torch.tensor(0.5))
    tap = capture(after_attention, seen, "shifted")
    call(backbone)
    tap.remove()
    shift.remove()
    torch.testing.assert_close(seen["shifted"][0], seen["before"][0] + 0.5)


@pytest.mark.parametrize("name", ["attention_output", "ffn_output"])
def test_serial_sites_give_the_update_before_the_residual_sum(backbone, name):
    """What a site's module returns is exactly what is added to the residual stream."""
    layer = backbone.model.get_submodule(backbone.family.layers)[1]
    assert backbone.width(1, name) == (32, 32)
    seen = {}
    handles = [capture(getattr(*backbone.site(1, name)), seen, "site"), capture(layer, seen, "layer")]
    if backbone.family.name == "Llama":
        # pre-norm: layer input + attention = middle; middle + FFN = layer output
        handles.append(capture(layer.post_attention_layernorm, seen, "middle"))
    else:
        # post-norm: norm(layer input + attention) = middle; norm(middle + FFN) = layer output
        handles.append(capture(layer.attention.output.LayerNorm, seen, "attention norm"))
        handles.append(capture(layer.output.LayerNorm, seen, "ffn norm"))
    call(backbone)
    for handle in handles:
        handle.remove()
    update = seen["site"][1]
    if backbone.family.name == "Llama":
        residual = seen["layer"][0] if name == "attention_output" else seen["middle"][0]
        total = seen["middle"][0] if name == "attention_output" else seen["layer"][1]
    elif name == "attention_output":
        residual, total = seen["layer"][0], seen["attention norm"][0]
    else:
        residual, total = seen["attention norm"][1], seen["ffn norm"][0]
    torch.testing.assert_close(residual + update, total)


def test_the_head_is_the_head(backbone):
    names = {
        "BERT": {"classifier.weight", "classifier.bias"},
        "RoBERTa": {f"classifier.{part}.{kind}" for part in ("dense", "out_proj") for kind in ("weight", "bias")},
        "Llama": {"score.weight"},
    }
    assert set(backbone.head_parameters) == names[backbone.family.name]


@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_a_reset_head_has_that_many_outputs(backbone, outputs):
    backbone.reset_head(outputs, seed=0)
    assert call(backbone).logits.shape == (1, outputs)
    assert backbone.model.num_labels == outputs
    assert not any(parameter.requires_grad for parameter in backbone.head_parameters.values())


def test_resetting_the_head_leaves_the_rest_and_the_count_alone(backbone):
    parameters, hidden = backbone.parameters, call(backbone).hidden_states[-1]
    backbone.reset_head(9, seed=3)
    assert backbone.parameters == parameters
    head = sum(parameter.numel() for parameter in backbone.head_parameters.values())
    assert sum(parameter.numel() for parameter in backbone.model.parameters()) - head == parameters
    assert torch.equal(call(backbone).hidden_states[-1], hidden)


def heads(backbone, outputs, seed):
    backbone.reset_head(outputs, seed)
    return {name: parameter.clone() for name, parameter in backbone.head_parameters.items()}


def test_a_head_depends_on_the_seed_and_the_shape_alone(backbone):
    first = heads(backbone, 3, seed=1)
    heads(backbone, 5, seed=2)
    torch.manual_seed(99)
    again = heads(backbone, 3, seed=1)
    other = heads(backbone, 3, seed=2)
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert not any(torch.equal(other[name], value) for name, value in first.items() if value.dim() > 1)


def test_every_part_of_a_head_draws_from_its_own_stream(tiny_roberta):
    head = heads(load_backbone(tiny_roberta), 2, seed=1)
    dense, projection = head["classifier.dense.weight"], head["classifier.out_proj.weight"]
    assert not torch.equal(dense.flatten()[: projection.numel()], projection.flatten())


def test_a_fresh_head_has_the_models_own_spread_and_no_biases(own_bert):
    head = heads(own_bert, 400, seed=0)
    assert head["classifier.weight"].std() == pytest.approx(own_bert.model.config.initializer_range, rel=0.05)
    assert torch.count_nonzero(head["classifier.bias"]) == 0


def test_a_fresh_head_leaves_the_memory_of_the_old_one_alone(backbone):
    backbone.reset_head(2, seed=0)
    parameters = backbone.head_parameters
    old = {name: parameter.data for name, parameter in parameters.items()}
    before = {name: value.clone() for name, value in old.items()}
    backbone.reset_head(2, seed=1)
    assert all(backbone.head_parameters[name] is parameter for name, parameter in parameters.items())
    assert all(torch.equal(value, before[name]) for name, value in old.items())
    assert all(backbone.head_parameters[name].data_ptr() != value.data_ptr() for name, value in old.items())


def test_a_backbone_moves_as_a_whole(tiny_llama):
    # the meta device stands for a GPU; the model is not the one that other tests use
    backbone = load_outline(tiny_llama)
    assert backbone.to(torch.device("meta")) is backbone
    assert backbone.device.type == "meta"


def test_a_pickled_backbone_makes_its_tokenizer_when_it_is_asked_for(own_bert):
    copy = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(own_bert))))
    assert "tokenizer" not in vars(copy)
    assert copy.tokenizer is copy.tokenizer
    assert copy.tokenizer("the film") == own_bert.tokenizer("the film")
    # once it is there, changes to it count
    copy.tokenizer.model_max_length = 3
    assert pickle.loads(pickle.dumps(copy)).max_length == 3 != own_bert.max_length
    with pytest.raises(AttributeError, match="no attribute 'tokeniser'"):
        copy.tokeniser  # noqa: B018
