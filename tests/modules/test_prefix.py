"""Prefixes against attention computed by hand."""

import math

import pytest
import torch
from tiny import TEXTS, filled, hidden_states, make_tiny_model, tiny_batch
from torch import nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.modules import AdaptedBackbone
from prunepeft_ray.modules.prefix import Prefix, PrefixNetwork
from prunepeft_ray.modules.reparametrisation import Reparametrisation

FAMILY_NAMES = ("bert", "roberta", "llama")
# the paper's start is far from zero: mistakes show
PAPER = ModulesConfig(init="paper")


@pytest.fixture(params=FAMILY_NAMES)
def backbone(request, tiny_models):
    return load_backbone(tiny_models[request.param])


def split(x, width=8):
    """(batch, tokens, heads * width) to (batch, heads, tokens, width)."""
    return x.unflatten(-1, (-1, width)).transpose(1, 2)


def by_hand(backbone, attention, x, mask, keys, values):
    """What a bare attention module would return with a prefix: one head and one text at a time."""
    llama = backbone.family.name == "Llama"
    names = ("q_proj", "k_proj", "v_proj") if llama else ("query", "key", "value")
    query, key, value = (split(getattr(attention, name)(x)) for name in names)
    if llama:
        positions = torch.arange(x.shape[1])[None]
        query, key = apply_rotary_pos_emb(query, key, *backbone.model.model.rotary_emb(x, positions))
    heads, shared = query.shape[1], query.shape[1] // key.shape[1]
    result = torch.zeros(query.shape)
    for text in range(len(x)):
        for head in range(heads):
            group = head // shared
            own = slice(8 * group, 8 * group + 8)
            for token in range(x.shape[1]):
                seen = [t for t in range(x.shape[1]) if mask[text, t] and (t <= token or not llama)]
                k = torch.cat([keys[:, own], key[text, group, seen]])
                v = torch.cat([values[:, own], value[text, group, seen]])
                weights = (k @ query[text, head, token] / math.sqrt(8)).exp()
                result[text, head, token] = (weights / weights.sum()) @ v
    result = result.transpose(1, 2).flatten(2)
    return attention.o_proj(result) if llama else result


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [True, False])
def test_heads_attend_to_the_prefix_and_to_the_tokens_that_they_may_see(backbone, implementation, padded):
    backbone.model.set_attn_implementation(implementation)
    inputs = tiny_batch(backbone)
    if not padded:
        # masks are then left out altogether
        inputs = {name: value[2:] for name, value in inputs.items()}
    seen = {}

    def keep(_module, args, kwargs, output):
        seen["x"], seen["output"] = (kwargs.get("hidden_states") if not args else args[0]), output[0]

    with torch.no_grad(), AdaptedBackbone(backbone, filled(2, "prefix", size=3), PAPER, 2, seed=0) as adapted:
        site = adapted.sites[1]
        handle = site.wrapper.register_forward_hook(keep, with_kwargs=True)
        backbone.model(**inputs)
        handle.remove()
        keys, values = (parameter for _, parameter in site.parameters())
    with torch.no_grad():
        attention = getattr(*backbone.site(1, "attention"))
        expected = by_hand(backbone, attention, seen["x"], inputs["attention_mask"], keys, values)
    backbone.model.set_attn_implementation("sdpa")
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(seen["output"][real], expected[real], rtol=1e-4, atol=1e-5)


def test_the_update_is_the_difference_that_the_prefix_makes(backbone):
    inputs = tiny_batch(backbone)
    real = inputs["attention_mask"].bool()
    found = {}

    def keep(module, args, kwargs, output):
        # the tokens' keys are in Llama's cache already
        bare = module.base_layer(*args, **kwargs | {"past_key_values": None})
        found["difference"] = output[0] - bare[0]

    with torch.no_grad(), AdaptedBackbone(backbone, filled(1, "prefix"), PAPER, 2, seed=0) as adapted:
        (site,) = adapted.sites
        handles = [
            site.wrapper.register_forward_hook(keep, with_kwargs=True),
            site.update.register_forward_hook(lambda _module, _inputs, output: found.update(update=output)),
        ]
        backbone.model(**inputs)
        for handle in handles:
            handle.remove()
    update = found["update"]
    assert update.shape[-1] == backbone.width(0, "attention")[1]
    if backbone.family.name == "Llama":
        # the module's output projection has no bias
        update = getattr(*backbone.site(0, "attention")).o_proj(update).detach()
    torch.testing.assert_close(update[real], found["difference"][real], rtol=1e-4, atol=1e-5)
    assert update[real].abs().mean() > 0.01


def test_without_its_update_a_prefix_leaves_no_trace(backbone):
    before = hidden_states(backbone)
    with AdaptedBackbone(backbone, filled(backbone.layers, "prefix"), PAPER, 2, seed=0) as adapted:
        for site in adapted.sites:
            site.update.register_forward_hook(lambda _module, _inputs, output: torch.zeros_like(output))
        after = hidden_states(backbone)
    real = tiny_batch(backbone)["attention_mask"].bool()
    torch.testing.assert_close(after[:, real], before[:, real], rtol=1e-4, atol=1e-4)


def logits_together_and_alone(backbone, position_ids=None):
    with torch.no_grad(), AdaptedBackbone(backbone, filled(backbone.layers, "prefix"), PAPER, 2, seed=0):
        inputs = backbone.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
        positions = {"position_ids": position_ids(inputs["attention_mask"])} if position_ids else {}
        together = backbone.model(**inputs, **positions).logits
        alone = [backbone.model(**backbone.tokenizer(text, return_tensors="pt")).logits for text in TEXTS]
    return together, torch.cat(alone)


def test_outputs_do_not_depend_on_padding(backbone):
    backbone.tokenizer.padding_side = "right"
    torch.testing.assert_close(*logits_together_and_alone(backbone), rtol=1e-4, atol=1e-4)


def test_a_decoders_outputs_do_not_depend_on_padding_on_the_left(tiny_llama):
    # padding tokens there see no token at all
    backbone = load_backbone(tiny_llama)
    backbone.tokenizer.padding_side = "left"
    together, alone = logits_together_and_alone(backbone, lambda mask: (mask.cumsum(dim=1) - 1).clamp(min=0))
    backbone.tokenizer.padding_side = "right"
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_the_models_own_configuration_is_in_place_again_after_every_pass(tmp_path):
    backbone = load_backbone(str(make_tiny_model("bert", tmp_path)))
    attention = getattr(*backbone.site(0, "attention"))
    with AdaptedBackbone(backbone, filled(1, "prefix"), PAPER, 2, seed=0):
        hidden_states(backbone)
        assert attention.config is backbone.model.config
        with pytest.raises(TypeError):
            getattr(*backbone.site(0, "attention"))(nonsense=1)
        assert attention.config is backbone.model.config
        assert backbone.model.config._attn_implementation == "sdpa"


def random_heads(heads=4, key_heads=2, tokens=3):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, heads, tokens, 8, generator=generator)
    key, value = torch.randn(2, 2, key_heads, tokens, 8, generator=generator)
    return query, key, value


def random_prefix(width, size):
    prefix = Prefix(width, size)
    with torch.no_grad():
        for parameter in (prefix.keys, prefix.values):
            parameter.normal_(generator=torch.Generator().manual_seed(3))
    return prefix


def watched(prefix, *args, **kwargs):
    """Output and update of a call."""
    updates = []
    handle = prefix.update.register_forward_hook(lambda _module, _inputs, output: updates.append(output))
    output = prefix(*args, **kwargs)
    handle.remove()
    return output, updates[0]


def test_a_prefix_that_draws_no_attention_has_no_update_even_under_dropout():
    query, key, value = random_heads()
    prefix = random_prefix(16, 3)
    with torch.no_grad():
        prefix.keys.fill_(-1e4)
    query = query.abs()
    output, update = watched(prefix, query, key, value, None, 1.0, dropout=0.5)
    torch.testing.assert_close(update, torch.zeros_like(update), rtol=0, atol=1e-6)
    assert output.abs().mean() > 0.1


def test_a_token_that_sees_no_other_one_gets_the_prefix_alone():
    query, key, value = random_heads()
    prefix = random_prefix(16, 1)
    output, update = watched(prefix, query, key, value, torch.zeros(2, 1, 3, 3, dtype=torch.bool), 1.0)
    assert torch.equal(output.flatten(2), update)
    expected = prefix.values.view(2, 8).repeat_interleave(2, dim=0).expand(2, 3, 4, 8)
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_are_those_of_plain_attention_over_prefix_and_tokens(dropout):
    query, key, value = (x.double().requires_grad_() for x in random_heads(key_heads=4))
    prefix = random_prefix(32, 3).double()
    torch.manual_seed(1)
    output, _ = watched(prefix, query, key, value, None, 0.5, dropout=dropout)
    weight = torch.randn(output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    inputs = (query, key, value, prefix.keys, prefix.values)
    found = torch.autograd.grad((output * weight).sum(), inputs)
    own_keys, own_values = (split(p[None]).expand(2, -1, -1, -1) for p in (prefix.keys, prefix.values))
    torch.manual_seed(1)
    weights = (0.5 * query @ torch.cat([own_keys, key], dim=2).mT).softmax(dim=-1)
    weights = torch.nn.functional.dropout(weights, dropout)
    plain = (weights @ torch.cat([own_values, value], dim=2)).transpose(1, 2)
    torch.testing.assert_close(output, plain)
    expected = torch.autograd.grad((plain * weight).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


# the network that makes it


def test_it_starts_as_adapterhubs(tmp_path):
    backbone = load_backbone(str(make_tiny_model("bert", tmp_path, hidden_size=256)))
    reference = []
    torch.manual_seed(0)
    for _ in range(4):
        outer, inner, embedding = nn.Linear(800, 2 * 256), nn.Linear(256, 800), nn.Embedding(64, 256)
        reference.append(outer(torch.tanh(inner(embedding.weight))))
    expected = torch.stack(reference).std().item()
    for init in ("default", "paper"):
        settings = ModulesConfig(init=init)
        with AdaptedBackbone(backbone, filled(4, "prefix", size=64), settings, 2, seed=0) as adapted:
            made = [p for parameters in adapted.slot_parameters.values() for p in parameters]
            for parameter in made:
                assert parameter.detach().std().item() == pytest.approx(expected, rel=0.1)
                assert parameter.detach().mean().item() == pytest.approx(0, abs=0.05)


def test_gradients_reach_the_network_as_if_it_ran_in_the_forward_pass():
    network, prefix = PrefixNetwork(16, 3), Prefix(16, 3)
    found = Reparametrisation(network, (prefix.keys, prefix.values))
    query, key, value = random_heads()
    prefix(query, key, value, None, 1.0).square().sum().backward()
    found.propagate_gradients()
    carried = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    keys, values = network()
    made = {"keys": keys, "values": values}
    torch.func.functional_call(prefix, made, (query, key, value, None, 1.0)).square().sum().backward()
    for gradient, parameter in zip(carried, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_a_scaled_loss_is_left_to_the_optimisers_scaler_in_the_network_alone():
    network, prefix = PrefixNetwork(16, 3), Prefix(16, 3)
    found = Reparametrisation(network, (prefix.keys, prefix.values))
    prefix.keys.grad, prefix.values.grad = torch.ones(3, 16), torch.ones(3, 16)
    found.propagate_gradients()
    plain = [parameter.grad.clone() for parameter in network.parameters()]
    prefix.keys.grad, prefix.values.grad = 8 * torch.ones(3, 16), 8 * torch.ones(3, 16)
    found.propagate_gradients(8.0)
    for gradient, parameter in zip(plain, network.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, 8 * gradient)
    assert torch.equal(prefix.keys.grad, torch.ones(3, 16))


def test_the_network_is_not_counted_and_loaded_weights_stay_as_they_are(backbone):
    with AdaptedBackbone(backbone, filled(backbone.layers, "prefix"), ModulesConfig(), 2, seed=0) as adapted:
        assert adapted.parameters == sum(p.numel() for found in adapted.slot_parameters.values() for p in found)
        assert not any("network" in name for name in adapted.state())
        assert any("network" in name for name in adapted.optimised)
        state = {name: torch.ones_like(tensor) for name, tensor in adapted.state().items()}
        adapted.load(state)
        adapted.after_step(1, 1)
        assert all(torch.equal(tensor, state[name]) for name, tensor in adapted.state().items())
        assert adapted.optimised.keys() == adapted.trainable.keys()


def test_half_precision_trains_a_prefix(backbone):
    with AdaptedBackbone(backbone, filled(2, "prefix"), PAPER, 2, seed=0) as adapted:
        single = backbone.model(**tiny_batch(backbone)).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = backbone.model(**tiny_batch(backbone)).logits
        torch.testing.assert_close(logits.float(), single, rtol=0.1, atol=0.1)
        logits.float().square().sum().backward()
        for parameters in adapted.slot_parameters.values():
            assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in parameters)
