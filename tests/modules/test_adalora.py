import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import filled, hidden_states

from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.modules import AdaptedBackbone, module_cost
from prunepeft_ray.modules.adalora import start_rank


@pytest.fixture(params=["bert", "roberta", "llama"])
def backbone(request, tiny_models):
    return load_backbone(tiny_models[request.param])


def adapt(backbone, architecture=None, **changes):
    return AdaptedBackbone(
        backbone, architecture or filled(backbone.layers, "adalora"), ModulesConfig(**changes), 2, seed=0
    )


def allowance(backbone, architecture):
    return sum(module_cost(backbone, slot, "adalora").parameters(module.size) for slot, module in architecture)


def fake_step(adapted, generator, boost=None):
    """A step with made-up gradients; those of sites with ``boost`` in their name are larger."""
    for name, parameter in adapted.trainable.items():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            parameter -= 0.01 * parameter.grad
        if boost and boost in name:
            parameter.grad *= 1000


def fake_steps(adapted, steps, seed=0, boost=None):
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, steps + 1):
        fake_step(adapted, generator, boost)
        adapted.after_step(step, steps)


def ranks(adapted):
    """Singular values that are left, by slot and site."""
    return {f"{site.slot}.{site.name}": int(site.wrapper.lora_E["default"].count_nonzero()) for site in adapted.sites}


def test_it_starts_as_the_identity_at_one_and_a_half_times_its_rank(backbone):
    assert [start_rank(rank) for rank in (1, 2, 3, 4, 8, 32)] == [2, 3, 5, 6, 12, 48]
    before = hidden_states(backbone)
    with adapt(backbone) as adapted:
        assert torch.equal(hidden_states(backbone), before)
        values = backbone.width(0, "value")[1]
        shapes = {name: tuple(p.shape) for name, p in adapted.trainable.items() if name.startswith("PA.0.")}
        assert shapes == {
            "PA.0.query.lora_A.default": (6, 32),
            "PA.0.query.lora_B.default": (32, 6),
            "PA.0.query.lora_E.default": (6, 1),
            "PA.0.value.lora_A.default": (6, 32),
            "PA.0.value.lora_B.default": (values, 6),
            "PA.0.value.lora_E.default": (6, 1),
        }
        assert not adapted.within_size


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (12.0, 2.0)])
def test_its_update_is_b_e_a_times_alpha_over_the_rank_at_the_start(tiny_bert, alpha, scale):
    with adapt(load_backbone(tiny_bert), lora_alpha=alpha, lora_dropout=0.0) as adapted:
        wrapper = adapted.sites[0].wrapper
        own = {name.split(".")[0]: parameter.detach() for name, parameter in adapted.sites[0].parameters()}
        own["lora_E"] += torch.arange(1.0, 7.0)[:, None]
        x = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
        expected = x @ (own["lora_B"] @ torch.diag(own["lora_E"][:, 0]) @ own["lora_A"]).T * scale
        torch.testing.assert_close(wrapper(x) - wrapper.base_layer(x), expected, rtol=1e-4, atol=1e-5)


def test_it_costs_a_vector_on_each_side_and_a_singular_value_per_rank(tiny_bert, tiny_llama):
    bert, llama = load_backbone(tiny_bert), load_backbone(tiny_llama)
    assert module_cost(bert, Slot(0, "PA"), "adalora").parameters(3) == 3 * 2 * (32 + 32 + 1)
    assert module_cost(llama, Slot(0, "PA"), "adalora").parameters(3) == 3 * ((32 + 32 + 1) + (32 + 16 + 1))


def test_the_penalty_is_the_mean_distance_from_orthogonal(tiny_bert):
    with adapt(load_backbone(tiny_bert), filled(1, "adalora", size=2)) as adapted:
        with torch.no_grad():
            for name, parameter in adapted.trainable.items():
                if "lora_A" in name:
                    parameter.copy_(torch.eye(3, 32))
                if "lora_B" in name:
                    parameter.copy_(2 * torch.eye(32, 3))
        # A is orthogonal; B'B - 1 is 3 times the identity of size 3; the mean over two As and two Bs, times 0.5
        assert adapted.penalty().item() == pytest.approx(0.5 * (0 + 3 * math.sqrt(3)) / 2)


@pytest.mark.parametrize("boost", [None, "query", "value", "PA.1"])
def test_what_is_left_in_the_end_has_the_architectures_parameters(backbone, boost):
    with adapt(backbone) as adapted:
        fake_steps(adapted, 40, boost=boost)
        most = allowance(backbone, adapted.architecture)
        assert adapted.within_size
        kept = ranks(adapted)
        assert all(rank == 6 for name, rank in kept.items() if boost and boost in name)
        left = sum(
            rank * (site.wrapper.in_features + site.wrapper.out_features + 1)
            for rank, site in zip(kept.values(), adapted.sites, strict=True)
        )
        assert adapted.parameters == left <= most
        # what is left over is less than one rank of the widest matrix
        assert left > most - 65


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_it_never_ends_above_the_architectures_parameters(tiny_llama, data):
    backbone = load_backbone(tiny_llama)
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    architecture = Architecture.of({Slot(layer, "PA"): Module("adalora", size) for layer, size in enumerate(sizes)})
    steps, seed = data.draw(st.integers(1, 12)), data.draw(st.integers(0, 99))
    with adapt(backbone, architecture) as adapted:
        assert not adapted.within_size
        fake_steps(adapted, steps, seed, data.draw(st.sampled_from([None, "query", "value"])))
        assert adapted.within_size
        # nothing is left over that would pay for a rank of the widest matrix
        assert allowance(backbone, architecture) - 65 < adapted.parameters <= allowance(backbone, architecture)


def test_ranks_go_on_a_cubic_schedule_between_a_tenth_and_a_half_of_the_steps(tiny_bert):
    with adapt(load_backbone(tiny_bert), filled(4, "adalora", size=8)) as adapted:
        left = []
        generator = torch.Generator().manual_seed(0)
        for step in range(1, 101):
            fake_step(adapted, generator)
            adapted.after_step(step, 100)
            left.append(sum(ranks(adapted).values()))
    start, end = 8 * 12, 8 * 8
    assert left[:10] == [start] * 10
    assert left[10:49] == [int((start - end) * (1 - (step - 10) / 40) ** 3 + end) for step in range(11, 50)]
    assert left[49:] == [end] * 51


def test_what_was_taken_away_stays_away(tiny_bert):
    with adapt(load_backbone(tiny_bert)) as adapted:
        gone = []
        generator = torch.Generator().manual_seed(0)
        for step in range(1, 21):
            fake_step(adapted, generator)
            adapted.after_step(step, 20)
            gone.append([site.wrapper.lora_E["default"].eq(0).flatten().tolist() for site in adapted.sites])
        assert gone[9:] == [gone[9]] * 11
        assert sum(map(sum, gone[9])) == 8 * 2


def test_a_state_goes_on_where_another_ended(backbone):
    def run(interrupted_at):
        adapted = adapt(backbone)
        generator = torch.Generator().manual_seed(0)
        for step in range(1, 21):
            if step == interrupted_at:
                weights, kept = adapted.state(), adapted.allocator_state()
                adapted.close()
                adapted = adapt(backbone)
                adapted.load(weights)
                adapted.load_allocators(kept)
            fake_step(adapted, generator)
            adapted.after_step(step, 20)
        found = adapted.state(), adapted.parameters
        adapted.close()
        return found

    expected, parameters = run(None)
    for step in (2, 7, 10, 11, 20):
        found, again = run(step)
        assert again == parameters
        assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_other_modules_have_no_allocator(tiny_bert):
    backbone = load_backbone(tiny_bert)
    with AdaptedBackbone(backbone, filled(4, "lora", "houlsby"), ModulesConfig(), 2, seed=0) as adapted:
        assert adapted.within_size
        assert adapted.allocators == adapted.allocator_state() == {}
