import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny import filled, hidden_states, make_tiny_model, tiny_batch

from prunepeft_ray.architecture import KINDS, Architecture, Module, Slot
from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import ModulesConfig, SpaceConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.modules import MODULE_TYPES, AdaptedBackbone, build_space

FAMILY_NAMES = ("bert", "roberta", "llama")
PARALLEL = ("lora", "dora")
SERIAL = ("pfeiffer", "houlsby")
FFN_AND_PREFIX = ("parallel", "prefix")
TYPES = PARALLEL + SERIAL + FFN_AND_PREFIX
COMBINATIONS = [(parallel, serial) for parallel in PARALLEL for serial in SERIAL]
DEFAULT = ModulesConfig(init="default")
PAPER = ModulesConfig(init="paper")


@pytest.fixture(params=FAMILY_NAMES)
def backbone(request, tiny_models):
    return load_backbone(tiny_models[request.param])


def weights(adapted):
    return adapted.state()


def train_a_little(adapted, steps=3):
    """Changes every module: a few steps away from a random target."""
    model = adapted.backbone.model
    optimiser = torch.optim.SGD(adapted.trainable.values(), lr=0.5)
    target = torch.randn(3, model.num_labels, generator=torch.Generator().manual_seed(0))
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        (model(**tiny_batch(adapted.backbone)).logits - target).square().sum().backward()
        torch.nn.utils.clip_grad_norm_(adapted.trainable.values(), 1.0)
        optimiser.step()
    model.eval()


def logits(backbone):
    with torch.no_grad():
        return backbone.model(**tiny_batch(backbone)).logits


# parameters


@pytest.mark.parametrize(("parallel", "serial"), COMBINATIONS)
@pytest.mark.parametrize("init", ["default", "paper"])
def test_the_supernet_has_as_many_parameters_as_the_space_says(backbone, parallel, serial, init):
    sizes = {"rank": 3, "bottleneck": 5, "ffn_bottleneck": 6, "prefix": 7}
    config = SpaceConfig(kinds=KINDS, parallel=parallel, serial=serial, **sizes)
    space = build_space(config, backbone)
    assert len(space.supernet) == len(KINDS) * backbone.layers
    with AdaptedBackbone(backbone, space.supernet, ModulesConfig(init=init), 2, seed=0) as adapted:
        counted = sum(parameter.numel() for parameter in backbone.model.parameters()) - adapted.head_parameters
        head = sum(parameter.numel() for parameter in backbone.head_parameters.values())
        assert adapted.head_parameters == head
        assert counted - backbone.parameters == space.parameters(space.supernet) == adapted.parameters
        trainable = sum(p.numel() for p in backbone.model.parameters() if p.requires_grad)
        assert trainable == adapted.parameters + adapted.head_parameters
        assert trainable == sum(p.numel() for p in adapted.trainable.values())
    assert sum(parameter.numel() for parameter in backbone.model.parameters()) == backbone.parameters + head


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_sub_architecture_has_as_many_parameters_as_the_space_says(backbone, data):
    parallel, serial = data.draw(st.sampled_from(PARALLEL)), data.draw(st.sampled_from(SERIAL))
    space = build_space(SpaceConfig(kinds=KINDS, parallel=parallel, serial=serial), backbone)
    slots = data.draw(st.lists(st.sampled_from(space.supernet.slots), unique=True))
    size = st.integers(1, 40)
    architecture = Architecture.of({slot: Module(space.supernet[slot].type, data.draw(size)) for slot in slots})
    with AdaptedBackbone(backbone, architecture, DEFAULT, 2, seed=0) as adapted:
        assert adapted.parameters == space.parameters(architecture)
        by_slot = {slot: sum(p.numel() for p in found) for slot, found in adapted.slot_parameters.items()}
        assert by_slot == {slot: space.slot_parameters(slot, module) for slot, module in architecture}


# what modules do to outputs


@pytest.mark.parametrize("module", [*PARALLEL, *SERIAL, "parallel"])
def test_by_default_modules_start_as_the_identity(backbone, module):
    before = hidden_states(backbone)
    with AdaptedBackbone(backbone, filled(backbone.layers, module), DEFAULT, 2, seed=0):
        if module == "dora":
            # magnitude / norm is one up to rounding
            torch.testing.assert_close(hidden_states(backbone), before, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(hidden_states(backbone), before)


@pytest.mark.parametrize("module", TYPES)
def test_with_the_papers_initialisation_modules_do_not_start_as_the_identity(backbone, module):
    before = hidden_states(backbone)
    with AdaptedBackbone(backbone, filled(backbone.layers, module), PAPER, 2, seed=0):
        after = hidden_states(backbone)
    assert torch.equal(after[0], before[0])
    for layer in range(backbone.layers):
        assert not torch.allclose(after[layer + 1], before[layer + 1], atol=1e-2)


@pytest.mark.parametrize("module", [module for module in TYPES if module != "prefix"])
def test_the_papers_initialisation_has_the_stated_spread(tmp_path, module):
    # large, so that the spread can be measured; wider inside than outside, so that fan-in and fan-out differ
    wide = load_backbone(str(make_tiny_model("bert", tmp_path, hidden_size=128)))
    with AdaptedBackbone(wide, filled(4, module, size=64), PAPER, 2, seed=0) as adapted:
        projections = {
            name: parameter
            for name, parameter in adapted.trainable.items()
            if parameter.dim() == 2 and not name.startswith("head.")
        }
        assert len(projections) == 4 * 2 * len(MODULE_TYPES[module].sites)
        for name, parameter in projections.items():
            down = any(part in name for part in ("lora_A", "down"))
            assert parameter.shape == ((64, 128) if down else (128, 64))
            assert parameter.detach().std() == pytest.approx(128**-0.5 if down else 64**-0.5, rel=0.05), name
            assert parameter.detach().mean() == pytest.approx(0, abs=0.01)


def test_doras_magnitude_starts_as_the_norm_of_the_merged_weight(backbone):
    slot = Slot(1, "PA")
    with AdaptedBackbone(backbone, Architecture.of({slot: Module("dora", 4)}), PAPER, 2, seed=0) as adapted:
        base = backbone.site(1, "value")[0]
        layer = getattr(base, backbone.site(1, "value")[1])
        merged = layer.base_layer.weight + layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        magnitude = adapted.trainable["PA.1.value.lora_magnitude_vector.default.weight"]
        torch.testing.assert_close(magnitude, merged.norm(dim=1))


def test_loras_alpha_over_rank_scales_its_update(backbone):
    architecture = Architecture.of({Slot(0, "PA"): Module("lora", 4)})
    seen = []
    for alpha in (None, 4.0, 8.0):
        with AdaptedBackbone(backbone, architecture, ModulesConfig(init="paper", lora_alpha=alpha), 2, seed=0) as a:
            wrapper = a.sites[0].wrapper
            x = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
            seen.append((wrapper(x) - wrapper.base_layer(x)).detach())
    assert torch.equal(seen[0], seen[1])
    torch.testing.assert_close(seen[2], 2 * seen[1])


def test_an_adapter_adds_its_bottlenecks_output_with_relu_to_the_sites_output(backbone):
    with AdaptedBackbone(backbone, filled(1, "pfeiffer"), PAPER, 2, seed=0) as adapted:
        (site,) = adapted.sites
        own = dict(site.parameters())
        x = torch.randn(2, 3, site.wrapper.base_layer.in_features if backbone.family.name == "Llama" else 32)
        h = site.wrapper.base_layer(x)
        down = (h @ own["bottleneck.down.weight"].T + own["bottleneck.down.bias"]).clamp(min=0)
        expected = h + down @ own["bottleneck.up.weight"].T + own["bottleneck.up.bias"]
        torch.testing.assert_close(site.wrapper(x), expected)
        assert site.name == "ffn_output"


@pytest.mark.parametrize("scale", [4.0, 0.5])
def test_a_parallel_adapter_adds_its_scaled_output_to_that_of_the_ffn(backbone, scale):
    """Recomputed layer by layer from what the bare backbone's parts give."""
    settings = ModulesConfig(init="paper", parallel_scale=scale)
    layer = backbone.model.get_submodule(backbone.family.layers)[0]
    with AdaptedBackbone(backbone, filled(1, "parallel"), settings, 2, seed=0) as adapted:
        own = {name: parameter.detach() for name, parameter in adapted.sites[0].parameters()}
        found = hidden_states(backbone)
    x = torch.zeros(0)
    entry = layer.mlp if backbone.family.name == "Llama" else layer.intermediate

    def keep(_module, inputs):
        nonlocal x
        x = inputs[0]

    handle = entry.register_forward_pre_hook(keep)
    bare = hidden_states(backbone)
    handle.remove()
    with torch.no_grad():
        down = (x @ own["bottleneck.down.weight"].T + own["bottleneck.down.bias"]).clamp(min=0)
        update = scale * (down @ own["bottleneck.up.weight"].T + own["bottleneck.up.bias"])
        if backbone.family.name == "Llama":
            expected = bare[1] + update
        else:
            expected = layer.output.LayerNorm(layer.output.dense(layer.intermediate(x)) + update + x)
    torch.testing.assert_close(found[1], expected)
    assert not torch.allclose(found[1], bare[1], atol=0.1)


def test_an_adapter_after_the_ffn_reads_the_ffns_own_output_beside_a_parallel_one(backbone):
    given = []
    for types in (("pfeiffer",), ("parallel", "pfeiffer")):
        with AdaptedBackbone(backbone, filled(1, *types), PAPER, 2, seed=0) as adapted:
            bottleneck = next(site.update for site in adapted.sites if site.slot.kind == "SA")
            handle = bottleneck.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0]))
            hidden_states(backbone)
            handle.remove()
    assert torch.equal(given[0], given[1])


def test_houlsby_sits_after_attention_and_ffn(backbone):
    with AdaptedBackbone(backbone, filled(1, "houlsby"), PAPER, 2, seed=0) as adapted:
        assert [site.name for site in adapted.sites] == ["attention_output", "ffn_output"]


def test_lora_dropout_acts_in_training_alone(backbone):
    settings = ModulesConfig(init="paper", lora_dropout=0.5)
    with AdaptedBackbone(backbone, filled(1, "lora"), settings, 2, seed=0) as adapted:
        wrapper = adapted.sites[0].wrapper
        x = torch.ones(1, 32)
        assert torch.equal(wrapper(x), wrapper(x))
        wrapper.train()
        torch.manual_seed(0)
        assert not torch.equal(wrapper(x), wrapper(x))


def test_modules_in_layer_1_do_not_touch_layers_10_to_15(tmp_path):
    # the released code compares names as substrings, so that 'layer.1' is also in 'layer.10'
    deep = load_backbone(str(make_tiny_model("bert", tmp_path, num_hidden_layers=16, hidden_size=16)))
    sizes = {1: 64, 10: 2, 11: 4, 15: 8}
    slots = {Slot(layer, kind): size for layer, size in sizes.items() for kind in ("PA", "SA")}
    architecture = Architecture.of({s: Module("lora" if s.kind == "PA" else "pfeiffer", n) for s, n in slots.items()})
    with AdaptedBackbone(deep, architecture, PAPER, 2, seed=0) as adapted:
        for layer in range(16):
            projection = getattr(*deep.site(layer, "query"))
            adapter = getattr(*deep.site(layer, "ffn_output"))
            if layer in sizes:
                assert projection.lora_A["default"].out_features == sizes[layer]
                assert adapter.bottleneck.down.out_features == sizes[layer]
            else:
                assert not hasattr(projection, "base_layer")
                assert not hasattr(adapter, "base_layer")
        assert {site.slot for site in adapted.sites} == set(slots)


# removing


@pytest.mark.parametrize("modules", [*((module,) for module in TYPES), ("dora", "houlsby", *FFN_AND_PREFIX)])
@pytest.mark.parametrize("init", ["default", "paper"])
def test_closing_gives_back_exactly_the_outputs_of_before_even_after_training(backbone, modules, init):
    before = hidden_states(backbone)
    backbone.reset_head(2, 0)
    bare = dict(backbone.model.named_modules())
    adapted = AdaptedBackbone(backbone, filled(backbone.layers, *modules), ModulesConfig(init=init), 2, seed=0)
    train_a_little(adapted)
    assert not torch.allclose(hidden_states(backbone), before, atol=1e-3)
    adapted.close()
    assert torch.equal(hidden_states(backbone), before)
    after = dict(backbone.model.named_modules())
    assert after.keys() == bare.keys()
    assert all(after[name] is found for name, found in bare.items())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


def test_training_changes_nothing_but_modules_and_head(backbone):
    frozen = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    with AdaptedBackbone(
        backbone, filled(backbone.layers, "lora", "pfeiffer", *FFN_AND_PREFIX), DEFAULT, 2, seed=0
    ) as adapted:
        start = weights(adapted)
        train_a_little(adapted)
        assert not any(torch.equal(value, start[name]) for name, value in weights(adapted).items() if "SA.0" in name)
    head = set(backbone.head_parameters)
    for name, value in backbone.model.state_dict().items():
        assert name in head or torch.equal(value, frozen[name]), name


def test_an_error_inside_the_context_gives_the_backbone_back(backbone):
    with (
        pytest.raises(ZeroDivisionError),
        AdaptedBackbone(backbone, filled(1, "lora"), DEFAULT, 2, seed=0),
    ):
        1 / 0  # noqa: B018
    AdaptedBackbone(backbone, filled(1, "lora"), DEFAULT, 2, seed=0).close()


def test_a_backbone_carries_one_architecture_at_a_time(backbone):
    with AdaptedBackbone(backbone, filled(1, "lora"), DEFAULT, 2, seed=0) as adapted:
        with pytest.raises(RuntimeError, match="already carries"):
            AdaptedBackbone(backbone, filled(2, "lora"), DEFAULT, 2, seed=0)
        assert len(adapted.sites) == 2
    with AdaptedBackbone(backbone, filled(2, "lora"), DEFAULT, 2, seed=0) as adapted:
        assert len(adapted.sites) == 4


def test_an_empty_architecture_trains_the_head_alone(backbone):
    with AdaptedBackbone(backbone, Architecture(), DEFAULT, 3, seed=0) as adapted:
        assert adapted.parameters == 0
        assert all(name.startswith("head.") for name in adapted.trainable)
        assert len(adapted.trainable) == len(backbone.head_parameters)


# initial weights


@pytest.mark.parametrize("settings", [DEFAULT, PAPER])
def test_a_module_starts_the_same_whatever_other_slots_are_filled(backbone, settings):
    supernet = filled(backbone.layers, "lora", "houlsby", *FFN_AND_PREFIX)
    with AdaptedBackbone(backbone, supernet, settings, 2, seed=7) as adapted:
        whole = weights(adapted)
    for chosen in (supernet.slots[-1:], supernet.slots[1:4], tuple(reversed(supernet.slots[2:]))):
        part = Architecture(tuple((slot, supernet[slot]) for slot in chosen))
        with AdaptedBackbone(backbone, part, settings, 2, seed=7) as adapted:
            found = weights(adapted)
        assert set(found) <= set(whole)
        assert all(torch.equal(value, whole[name]) for name, value in found.items())


def test_modules_start_by_the_seed_and_not_by_the_global_random_stream(backbone):
    def start(seed, noise):
        torch.manual_seed(noise)
        with AdaptedBackbone(backbone, filled(2, "lora", "pfeiffer"), PAPER, 2, seed=seed) as adapted:
            return weights(adapted)

    first, again, other = start(1, 10), start(1, 11), start(2, 10)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    matrices = [name for name, value in first.items() if value.dim() == 2]
    assert not any(torch.equal(first[name], other[name]) for name in matrices)
    # every site draws from its own stream
    a = "lora_A.default.weight"
    starts = [first[f"PA.{layer}.{site}.{a}"] for layer in (0, 1) for site in ("query", "value")]
    assert not any(torch.equal(x, y) for i, x in enumerate(starts) for y in starts[:i])


# state


@pytest.mark.parametrize("modules", [("lora", "pfeiffer"), ("dora", "houlsby", *FFN_AND_PREFIX)])
@pytest.mark.parametrize("init", ["default", "paper"])
def test_a_state_loaded_into_a_fresh_backbone_gives_identical_outputs(backbone, modules, init, tmp_path):
    architecture = filled(backbone.layers, *modules)
    settings = ModulesConfig(init=init, lora_alpha=3)
    with AdaptedBackbone(backbone, architecture, settings, 3, seed=0) as adapted:
        train_a_little(adapted)
        state, expected = adapted.state(), logits(backbone)
        shapes = {name: tuple(parameter.shape) for name, parameter in adapted.trainable.items()}
    save_file(state, tmp_path / "state.safetensors")
    load_backbone.cache_clear()
    fresh = load_backbone(str(backbone.tokenizer.name_or_path))
    assert fresh is not backbone
    with AdaptedBackbone(fresh, architecture, settings, 3, seed=99) as adapted:
        assert not torch.equal(logits(fresh), expected)
        adapted.load(load_file(tmp_path / "state.safetensors"))
        assert torch.equal(logits(fresh), expected)
    # only what trains is in it
    assert {name: tuple(value.shape) for name, value in state.items()} == shapes


def test_a_state_is_a_copy(backbone):
    with AdaptedBackbone(backbone, filled(1, "lora"), PAPER, 2, seed=0) as adapted:
        state = adapted.state()
        train_a_little(adapted)
        assert not any(torch.equal(state[name], p) for name, p in adapted.trainable.items() if "lora" in name)


def test_names_do_not_depend_on_the_family(tiny_bert, tiny_llama):
    names = []
    for path in (tiny_bert, tiny_llama):
        backbone = load_backbone(path)
        with AdaptedBackbone(backbone, filled(2, "dora", "houlsby", *FFN_AND_PREFIX), DEFAULT, 2, seed=0) as adapted:
            names.append({name for name in adapted.trainable if not name.startswith("head.")})
    assert names[0] == names[1]
    assert "SA.1.attention_output.bottleneck.down.weight" in names[0]


def test_a_state_of_another_architecture_is_refused(backbone):
    with AdaptedBackbone(backbone, filled(2, "lora"), DEFAULT, 2, seed=0) as adapted:
        state = adapted.state()
    others = [
        (filled(1, "lora"), 2, "'PA.1.query.lora_A.default.weight' is missing or unexpected"),
        (filled(3, "lora"), 2, "'PA.2.query.lora_A.default.weight' is missing or unexpected"),
        (filled(2, "dora"), 2, "is missing or unexpected"),
        (filled(2, "lora", size=5), 2, "'PA.0.query.lora_A.default.weight' has a different shape"),
        (filled(2, "lora"), 3, "has a different shape"),
    ]
    for architecture, outputs, message in others:
        with (
            AdaptedBackbone(backbone, architecture, DEFAULT, outputs, seed=0) as adapted,
            pytest.raises(InputError, match=message),
        ):
            adapted.load(state)


# what does not fit


@pytest.mark.parametrize(
    ("slot", "module", "message"),
    [
        (Slot(5, "PA"), "lora", r"slot PA\.5 does not exist: the backbone has [45] layers"),
        (Slot(0, "SA"), "lora", r"slot SA\.0 cannot hold a 'lora' module, which fills PA slots"),
        (Slot(1, "PA"), "houlsby", r"slot PA\.1 cannot hold a 'houlsby' module, which fills SA slots"),
        (Slot(0, "PA"), "lorra", r"unknown module type 'lorra': did you mean 'lora'\?"),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused_and_leaves_the_backbone_free(backbone, slot, module, message):
    before = hidden_states(backbone)
    architecture = Architecture.of({Slot(0, "PA"): Module("lora", 2), slot: Module(module, 2)})
    with pytest.raises(InputError, match=message):
        AdaptedBackbone(backbone, architecture, PAPER, 2, seed=0)
    assert torch.equal(hidden_states(backbone), before)
    AdaptedBackbone(backbone, filled(1, "lora"), DEFAULT, 2, seed=0).close()


def test_what_trains_is_listed_slot_by_slot_and_then_the_head(backbone):
    # scores rely on it: gradients are told to the criteria in this order
    with AdaptedBackbone(backbone, filled(3, "dora", "houlsby", *FFN_AND_PREFIX), DEFAULT, 2, seed=0) as adapted:
        slots = [parameter for found in adapted.slot_parameters.values() for parameter in found]
        assert list(adapted.slot_parameters) == list(adapted.architecture.slots)
        listed = list(adapted.trainable.values())
        assert all(a is b for a, b in zip(slots, listed, strict=False))
        head = list(backbone.head_parameters.values())
        assert len(listed) == len(slots) + len(head)
        assert all(a is b for a, b in zip(listed[len(slots) :], head, strict=True))


def test_a_wrapper_adds_its_update_to_what_the_wrapped_module_returns(backbone):
    for module in (*PARALLEL, *SERIAL, "parallel"):
        with AdaptedBackbone(backbone, filled(2, module), ModulesConfig(init="paper", lora_alpha=10), 2, 0) as adapted:
            for site in adapted.sites:
                width_in = getattr(site.wrapper.base_layer, "in_features", 32)
                x = torch.randn(2, 3, width_in, generator=torch.Generator().manual_seed(0))
                if module == "parallel" and backbone.family.name != "Llama":
                    continue  # what its base returns is behind a norm
                updates = []
                handle = site.update.register_forward_hook(lambda _m, _i, out, into=updates: into.append(out))
                added = site.wrapper(x) - site.wrapper.base_layer(x)
                handle.remove()
                (update,) = updates
                assert update.abs().mean() > 0.01
                torch.testing.assert_close(update * site.scale, added, rtol=1e-4, atol=1e-5)
