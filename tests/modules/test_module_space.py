import pytest
import torch
from transformers import AutoModelForSequenceClassification, RobertaConfig

from prunepeft_ray.architecture import KINDS, Slot
from prunepeft_ray.backbones import FAMILIES, Backbone, load_backbone
from prunepeft_ray.config import SpaceConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.modules import build_space


@pytest.fixture(scope="module")
def roberta_large():
    """RoBERTa-large without weights."""
    config = RobertaConfig(
        vocab_size=50265,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        max_position_embeddings=514,
        type_vocab_size=1,
    )
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    return Backbone(model, None, FAMILIES["roberta"], "large")


def parameters_of_kind(space, kind):
    return sum(space.slot_parameters(slot) for slot in space.supernet.slots if slot.kind == kind)


def test_roberta_large_has_the_papers_numbers(roberta_large):
    space = build_space(SpaceConfig(), roberta_large)
    assert len(space.supernet) == 48
    assert space.layers == 24
    # LoRA: 24 layers x 2 projections x 32 x (1024 + 1024)
    assert parameters_of_kind(space, "PA") == 24 * 2 * 32 * 2048 == 3_145_728
    # adapter: 24 layers x (1024 x 128 + 128 + 128 x 1024 + 1024)
    assert parameters_of_kind(space, "SA") == 24 * (2 * 1024 * 128 + 128 + 1024) == 6_319_104
    assert space.parameters(space.supernet) == 9_464_832
    assert roberta_large.parameters == pytest.approx(354.3e6, rel=0.001)
    shares = [parameters_of_kind(space, kind) / roberta_large.parameters for kind in ("PA", "SA")]
    # the paper prints 0.97 and 1.94 %, of a smaller count than that of all the backbone's parameters
    assert shares == pytest.approx([0.0089, 0.0178], abs=0.0001)


@pytest.mark.parametrize(
    ("parallel", "serial", "pa", "sa"),
    [
        ("lora", "pfeiffer", 2 * 8 * 2048, 16 * 2049 + 1024),
        ("dora", "houlsby", 2 * (8 * 2048 + 1024), 2 * (16 * 2049 + 1024)),
    ],
)
def test_costs_of_a_layer_of_roberta_large(roberta_large, parallel, serial, pa, sa):
    space = build_space(SpaceConfig(parallel=parallel, serial=serial, rank=8, bottleneck=16), roberta_large)
    assert space.slot_parameters(Slot(3, "PA")) == pa
    assert space.slot_parameters(Slot(3, "SA")) == sa


def test_llamas_grouped_values_cost_less_than_its_queries(tiny_llama):
    space = build_space(SpaceConfig(rank=2), load_backbone(tiny_llama))
    assert space.slot_parameters(Slot(0, "PA")) == 2 * (32 + 32) + 2 * (32 + 16)


@pytest.mark.parametrize(
    ("kinds", "expected"), [(("PA",), 4), (("SA",), 4), (("SA", "PA"), 8), (("PF", "SA", "PA"), 12)]
)
def test_the_space_has_the_kinds_asked_for(tiny_bert, kinds, expected):
    space = build_space(SpaceConfig(kinds=kinds), load_backbone(tiny_bert))
    assert len(space.supernet) == expected
    assert {slot.kind for slot in space.supernet.slots} == set(kinds)


def test_a_parallel_adapter_costs_what_its_bottleneck_has(tiny_bert):
    space = build_space(SpaceConfig(kinds=("PF",), ffn_bottleneck=(3, 5, 3, 3)), load_backbone(tiny_bert))
    assert space.slot_parameters(Slot(1, "PF")) == 32 * 5 + 5 + 5 * 32 + 32


def test_a_prefix_costs_keys_and_values_of_the_key_heads(tiny_bert, tiny_llama):
    config = SpaceConfig(kinds=("PT",), prefix=6)
    assert build_space(config, load_backbone(tiny_bert)).slot_parameters(Slot(0, "PT")) == 2 * 6 * 32
    assert build_space(config, load_backbone(tiny_llama)).slot_parameters(Slot(0, "PT")) == 2 * 6 * 16


def test_one_size_per_layer(tiny_bert):
    space = build_space(SpaceConfig(rank=(1, 2, 3, 4), bottleneck=7), load_backbone(tiny_bert))
    assert [space.supernet[Slot(layer, "PA")].size for layer in range(4)] == [1, 2, 3, 4]
    assert {space.supernet[Slot(layer, "SA")].size for layer in range(4)} == {7}


@pytest.mark.parametrize("key", ["rank", "bottleneck", "ffn_bottleneck", "prefix"])
@pytest.mark.parametrize("sizes", [(1, 2, 3), (1, 2, 3, 4, 5)])
def test_a_list_of_sizes_of_another_length_than_the_backbone_is_refused(tiny_bert, key, sizes):
    with pytest.raises(InputError, match=rf"space\.{key}: got {len(sizes)} sizes, but the backbone has 4 layers"):
        build_space(SpaceConfig(kinds=tuple(KINDS), **{key: sizes}), load_backbone(tiny_bert))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"parallel": "lorra"}, "unknown module type 'lorra': did you mean 'lora'"),
        ({"serial": "lora"}, "space: 'lora' does not fill SA slots; these do: pfeiffer, houlsby"),
        ({"parallel": "adalora"}, "space: criteria cannot be collected in 'adalora'; they can in: lora, dora"),
    ],
)
def test_a_module_type_that_cannot_fill_the_slots_is_refused(tiny_bert, setting, message):
    with pytest.raises(InputError, match=message):
        build_space(SpaceConfig(**setting), load_backbone(tiny_bert))
