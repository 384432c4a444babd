import pytest
import torch
from tiny import filled, hidden_states, tiny_batch

from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.backbones import WHOLE, Backbone, load_backbone, load_outline
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.modules import AdaptedBackbone, module_cost

SETTINGS = ModulesConfig()


@pytest.fixture(params=["bert", "roberta", "llama", "bert whose pooler is new"])
def backbone(request, tiny_models):
    found = load_backbone(tiny_models[request.param.split()[0]])
    if "pooler" not in request.param:
        return found
    poolers = frozenset(name for name, _ in found.model.named_parameters() if ".pooler." in name)
    assert len(poolers) == 2
    return Backbone(found.model, found.tokenizer, found.family, found.fingerprint, poolers)


def tune(backbone, architecture=None):
    return AdaptedBackbone(backbone, architecture or filled(backbone.layers, "full", size=1), SETTINGS, 2, seed=0)


def step(adapted):
    """One step of gradient descent on a made-up loss."""
    model = adapted.backbone.model
    model.train()
    model(**tiny_batch(adapted.backbone)).logits.square().sum().backward()
    with torch.no_grad():
        for parameter in adapted.trainable.values():
            parameter -= 0.1 * parameter.grad
    model.eval()


def test_all_layers_together_are_the_whole_backbone(backbone):
    slots = [Slot(layer, "FT") for layer in range(backbone.layers)]
    costs = {slot: module_cost(backbone, slot, "full").parameters(1) for slot in slots}
    assert sum(costs.values()) == backbone.parameters
    before = {id(parameter) for parameter in backbone.model.parameters()}
    with tune(backbone) as adapted:
        assert adapted.parameters == backbone.parameters
        assert {slot: sum(p.numel() for p in found) for slot, found in adapted.slot_parameters.items()} == costs
        trained = {id(parameter) for parameter in adapted.trainable.values()}
        # the head alone is the backbone's own
        assert trained & before == {id(parameter) for parameter in backbone.head_parameters.values()}
        assert set(backbone.head_parameters) == {
            name for name, p in backbone.model.named_parameters() if p.requires_grad and ".tuned." not in name
        }


def test_what_lies_around_the_layers_goes_with_the_first_and_last(tiny_models, backbone):
    parts = {
        "bert": (("bert.embeddings",), ("bert.pooler",)),
        "roberta": (("roberta.embeddings",), ()),
        "llama": (("model.embed_tokens",), ("model.norm",)),
    }
    before, after = parts[backbone.model.config.model_type]
    layers, last = backbone.family.layers, backbone.layers - 1
    assert backbone.parts(0, WHOLE) == (*before, f"{layers}.0")
    assert backbone.parts(1, WHOLE) == (f"{layers}.1",)
    assert backbone.parts(last, WHOLE) == (f"{layers}.{last}", *(() if backbone.new_parameters else after))
    assert backbone.parts(0, "query") == ("query",)


def test_it_starts_as_the_backbone_and_every_parameter_gets_a_gradient(backbone):
    before = hidden_states(backbone)
    with tune(backbone) as adapted:
        assert torch.equal(hidden_states(backbone), before)
        backbone.model(**tiny_batch(backbone)).logits.square().sum().backward()
        assert all(parameter.grad is not None for parameter in adapted.trainable.values())
        assert all(p.grad is None for n, p in backbone.model.named_parameters() if ".base_layer." in n)


def test_training_leaves_the_backbones_memory_alone_and_closing_puts_it_back(backbone):
    backbone.reset_head(2, 0)
    modules, before = dict(backbone.model.named_modules()), hidden_states(backbone)
    memory = {
        name: (p.data_ptr(), p.detach().clone())
        for name, p in backbone.model.named_parameters()
        if name not in backbone.head_parameters
    }
    with tune(backbone) as adapted:
        step(adapted)
        assert not torch.allclose(hidden_states(backbone), before, atol=1e-3)
        copies = {p.data_ptr() for name, p in adapted.trainable.items() if not name.startswith("head.")}
        assert copies.isdisjoint(pointer for pointer, _ in memory.values())
    assert torch.equal(hidden_states(backbone), before)
    after = dict(backbone.model.named_modules())
    assert after.keys() == modules.keys()
    assert all(after[name] is found for name, found in modules.items())
    for name, parameter in backbone.model.named_parameters():
        if name in memory:
            assert parameter.data_ptr() == memory[name][0]
            assert torch.equal(parameter, memory[name][1])
    assert not any(p.requires_grad or p.grad is not None for p in backbone.model.parameters())


def test_dropout_acts_in_the_copies_while_training(tiny_bert):
    backbone = load_backbone(tiny_bert)
    with tune(backbone):
        assert torch.equal(hidden_states(backbone), hidden_states(backbone))
        backbone.model.train()
        assert not torch.equal(hidden_states(backbone), hidden_states(backbone))
        backbone.model.eval()


def test_a_state_loaded_into_a_fresh_backbone_gives_identical_outputs(backbone):
    with tune(backbone) as adapted:
        step(adapted)
        state, expected = adapted.state(), hidden_states(backbone)
    with tune(backbone) as adapted:
        assert not torch.equal(hidden_states(backbone), expected)
        adapted.load(state)
        assert torch.equal(hidden_states(backbone), expected)


def test_some_layers_alone_can_train_beside_modules_in_others(backbone):
    architecture = Architecture.of({Slot(1, "FT"): Module("full", 1), Slot(2, "PA"): Module("lora", 2)})
    before = hidden_states(backbone)
    with tune(backbone, architecture) as adapted:
        step(adapted)
        after = hidden_states(backbone)
    assert torch.equal(after[:2], before[:2])
    assert not torch.allclose(after[2], before[2])


def test_a_module_beside_the_whole_layer_is_refused(backbone):
    architecture = Architecture.of({Slot(1, "FT"): Module("full", 1), Slot(1, "SA"): Module("pfeiffer", 2)})
    with pytest.raises(InputError, match=r"slot SA\.1 cannot be filled beside FT\.1, which covers the whole layer"):
        tune(backbone, architecture)
    assert not backbone.adapted


def test_its_cost_is_known_without_weights(tiny_bert):
    outline, backbone = load_outline(tiny_bert), load_backbone(tiny_bert)
    for layer in range(backbone.layers):
        slot = Slot(layer, "FT")
        assert module_cost(outline, slot, "full") == module_cost(backbone, slot, "full")


def test_costs_of_other_modules_are_known_while_the_layer_is_tuned(tiny_bert):
    backbone = load_backbone(tiny_bert)
    expected = module_cost(backbone, Slot(0, "PA"), "lora")
    with tune(backbone):
        assert module_cost(backbone, Slot(0, "PA"), "lora") == expected
