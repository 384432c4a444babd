"""Theta of every criterion against numbers worked out by hand."""

import pytest
import torch
from torch import nn

from prunepeft_ray.architecture import Slot
from prunepeft_ray.criteria import CRITERIA
from prunepeft_ray.criteria.collector import Collector, Update
from prunepeft_ray.errors import InputError

CPU = torch.device("cpu")
PA, SA, PA1, SA1 = Slot(0, "PA"), Slot(0, "SA"), Slot(1, "PA"), Slot(1, "SA")
ALL = tuple(CRITERIA)


def parameter(*values):
    return nn.Parameter(torch.tensor(values))


def linear(rows):
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))
    return layer


def of_weights(names, parameters, **settings):
    return Collector(names, parameters, [], CPU, **settings).thetas()


def of_steps(name, parameters, *steps):
    """Theta after steps with given gradients: one tensor per parameter."""
    collector = Collector([name], parameters, [], CPU)
    for gradients in steps:
        collector.step([torch.tensor(g) for g in gradients], torch.zeros(collector.vector_size))
    return collector.thetas()[name]


class Toy:
    """Slots that each see the same hidden states: update = scale * (weight @ hidden), loss = sum of v . update.

    Then dL/d(output) = scale * v, and dL/dw = scale * v (outer) sum of hidden.
    """

    def __init__(self, layers, names=ALL, scale=1.0, order=None):
        self.layers = layers
        self.scale = scale
        slots = order or list(layers)
        self.parameters = {slot: [layers[slot].weight] for slot in slots}
        updates = [Update(slot, layers[slot], scale, layers[slot].out_features) for slot in slots]
        self.collector = Collector(names, self.parameters, updates, CPU, threshold=1.5)

    def micro_batch(self, hidden, mask, v, loss_scale=1.0):
        """One forward and backward pass; gradients add up in the parameters."""
        self.collector.begin_micro_batch(torch.tensor(mask))
        with self.collector.watching():
            # in the order of self.layers, whatever the order of the collector
            loss = sum(
                (self.scale * layer(torch.tensor(hidden)) * torch.tensor(v)).sum() for layer in self.layers.values()
            )
            (loss * loss_scale).backward()
        return self.collector.micro_batch_vector()

    def step(self, vector, loss_scale=1.0):
        found = [p for parameters in self.parameters.values() for p in parameters]
        self.collector.step([p.grad / loss_scale for p in found], vector, loss_scale)
        for p in found:
            p.grad = None

    def batch(self, hidden, mask, v, loss_scale=1.0):
        self.step(self.micro_batch(hidden, mask, v, loss_scale), loss_scale)

    def theta(self, name):
        return self.collector.thetas()[name]


# one example of two tokens, and a third that is padding
HIDDEN = [[[1.0, 1.0], [2.0, -1.0], [9.0, 9.0]]]
MASK = [[1, 1, 0]]
V = [1.0, 3.0]


def toy_layers():
    # outputs for HIDDEN: PA (1, -2) (2, 2) (9, -18); SA (2, 2) (1, 1) (18, 18)
    return {PA: linear([[1.0, 0.0], [0.0, -2.0]]), SA: linear([[1.0, 1.0], [1.0, 1.0]])}


# registry


def test_there_are_the_six_of_the_paper_and_gate():
    assert set(CRITERIA) == {"weight", "zeros", "threshold", "activation", "sensitivity", "gradient", "gate"}


@pytest.mark.parametrize("name", ALL)
def test_a_criterion_measures_in_exactly_one_way(name):
    found = CRITERIA[name]
    ways = [found.of_weights, found.of_step, found.of_output, found.of_output_gradient]
    assert sum(way is not None for way in ways) == 1
    assert found.name == name


@pytest.mark.parametrize("name", ALL)
def test_larger_prunability_means_pruned_sooner(name):
    # method, section 4: small Theta goes first, but for threshold
    assert (CRITERIA[name].prunability(2.0) > CRITERIA[name].prunability(1.0)) == (name == "threshold")


def test_gate_alone_is_on_one_scale_for_all_kinds():
    assert [name for name in CRITERIA if CRITERIA[name].scale_free] == ["gate"]


def test_an_unknown_criterion_is_refused():
    with pytest.raises(InputError, match=r"unknown criterion 'gradients': did you mean 'gradient'\?"):
        Collector(["gradients"], {PA: [parameter(1.0)]}, [], CPU)


# criteria of the weights


def test_weight_zeros_and_fixed_threshold():
    parameters = {
        PA: [nn.Parameter(torch.tensor([[1.0, -2.0], [0.0, 0.0]])), parameter(3.0)],
        SA: [parameter(0.5, -0.5, 0.0, 0.0)],
    }
    thetas = of_weights(["threshold", "weight", "zeros"], parameters, threshold=1.5)
    assert list(thetas) == ["threshold", "weight", "zeros"]
    # (1 + 4 + 9) / 5 and (0.25 + 0.25) / 4
    assert thetas["weight"] == pytest.approx({PA: 2.8, SA: 0.125})
    assert thetas["zeros"] == pytest.approx({PA: 3 / 5, SA: 2 / 4})
    # below 1.5: 1, 0, 0 and all
    assert thetas["threshold"] == pytest.approx({PA: 3 / 5, SA: 1.0})


def test_a_threshold_is_exclusive_and_ignores_the_sign():
    thetas = of_weights(["threshold"], {PA: [parameter(-1.0, 1.0, -0.5, -3.0)]}, threshold=1.0)
    assert thetas["threshold"] == {PA: 0.25}


def test_the_quantile_is_pooled_over_the_slots_of_a_kind_and_not_over_kinds():
    parameters = {
        PA: [parameter(1.0, -2.0, 3.0, -4.0, 5.0)],
        PA1: [parameter(-6.0, 7.0, 8.0, 9.0, -10.0)],
        SA: [parameter(0.01, 0.03, 0.05, 0.07, 0.09)],
        SA1: [parameter(0.02, 0.04, 0.06, 0.08, 0.1)],
    }
    thetas = of_weights(["threshold"], parameters, threshold_quantile=0.2)["threshold"]
    # a fifth of the ten values of each kind lies below t: 1 and 2; 0.01 and 0.02
    assert thetas == pytest.approx({PA: 2 / 5, PA1: 0.0, SA: 1 / 5, SA1: 1 / 5})


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_the_share_below_the_quantile_is_the_quantile(share):
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    theta = of_weights(["threshold"], {PA: [nn.Parameter(values)]}, threshold_quantile=share)["threshold"][PA]
    assert theta == pytest.approx(share, abs=0.002)


def test_weights_are_those_at_the_end_of_the_pass():
    weight = parameter(1.0, 1.0)
    collector = Collector(["weight"], {PA: [weight]}, [], CPU)
    collector.step([torch.zeros(2)], torch.zeros(collector.vector_size))
    with torch.no_grad():
        weight.fill_(3.0)
    assert collector.thetas()["weight"] == {PA: 9.0}


# criteria of the gradients


def test_gradient_and_sensitivity_of_two_steps():
    parameters = {PA: [parameter(1.0, -2.0), parameter(4.0)], SA: [parameter(0.0, 0.5)]}
    steps = [[[3.0, -1.0], [0.5], [2.0, 2.0]], [[1.0, 0.0], [-1.5], [0.0, -4.0]]]
    # PA: (3 + 1 + 0.5) / 3 and (1 + 0 + 1.5) / 3; SA: (2 + 2) / 2 and (0 + 4) / 2
    assert of_steps("gradient", parameters, *steps) == pytest.approx({PA: (4.5 + 2.5) / 3 / 2, SA: 2.0})
    # PA: (3 + 2 + 2) / 3 and (1 + 0 + 6) / 3; SA: (0 + 1) / 2 and (0 + 2) / 2
    assert of_steps("sensitivity", parameters, *steps) == pytest.approx({PA: 7 / 3, SA: 0.75})


def test_sensitivity_takes_the_weights_of_the_step():
    weight = parameter(2.0)
    collector = Collector(["sensitivity"], {PA: [weight]}, [], CPU)
    collector.step([torch.tensor([3.0])], torch.zeros(collector.vector_size))
    with torch.no_grad():
        weight.fill_(-4.0)
    collector.step([torch.tensor([1.0])], torch.zeros(collector.vector_size))
    assert collector.thetas()["sensitivity"] == {PA: (6.0 + 4.0) / 2}


# criteria of the outputs


def test_all_seven_in_one_pass_by_hand():
    toy = Toy(toy_layers())
    toy.batch(HIDDEN, MASK, V)
    thetas = toy.collector.thetas()
    # tokens that are not padding: PA (1, -2) (2, 2); SA (2, 2) (1, 1)
    assert thetas["activation"] == pytest.approx({PA: 7 / 4, SA: 6 / 4})
    # v = (1, 3) times the same outputs: PA 1 - 6 + 2 + 6 = 3; SA 2 + 6 + 1 + 3 = 12
    assert thetas["gate"] == pytest.approx({PA: 3.0, SA: 12.0})
    # dL/dw = v outer (1 + 2 + 9, 1 - 1 + 9) = ((12, 9), (36, 27)): the toy's loss does not know of padding
    assert thetas["gradient"] == pytest.approx({PA: 84 / 4, SA: 84 / 4})
    assert thetas["sensitivity"] == pytest.approx({PA: (12 + 54) / 4, SA: 84 / 4})
    assert thetas["weight"] == pytest.approx({PA: 5 / 4, SA: 1.0})
    assert thetas["zeros"] == pytest.approx({PA: 0.5, SA: 1.0})
    assert thetas["threshold"] == pytest.approx({PA: 0.75, SA: 1.0})


@pytest.mark.parametrize("name", ["activation", "gate"])
def test_padding_does_not_count(name):
    seen = []
    for padding in (9.0, -700.0):
        toy = Toy(toy_layers())
        toy.batch([[*HIDDEN[0][:2], [padding, 5.0]]], MASK, V)
        seen.append(toy.theta(name))
    toy = Toy(toy_layers())
    toy.batch([HIDDEN[0][:2]], [[1, 1]], V)
    assert seen[0] == seen[1] == toy.theta(name)


def test_activation_is_the_mean_over_all_tokens_of_all_batches():
    toy = Toy({PA: linear([[1.0, 0.0], [0.0, 1.0]])}, ["activation"])
    toy.batch([[[1.0, -1.0], [0.0, 0.0]]], [[1, 0]], V)
    toy.batch([[[4.0, 4.0], [4.0, 4.0]], [[0.0, 2.0], [5.0, 5.0]]], [[1, 1], [1, 0]], V)
    # four tokens: 1, 4, 4 and 1 on average
    assert toy.theta("activation") == pytest.approx({PA: 10 / 4})


def test_gate_is_a_sum_over_the_batch_and_a_mean_over_steps():
    toy = Toy({PA: linear([[1.0]])}, ["gate"])
    toy.batch([[[2.0]], [[-5.0]]], [[1], [1]], [1.0])
    toy.batch([[[1.0]]], [[1]], [1.0])
    # within a batch contributions cancel: |2 - 5|; between steps they do not
    assert toy.theta("gate") == pytest.approx({PA: (3 + 1) / 2})


def test_a_slot_of_two_sites_pools_them():
    query, value = linear([[1.0]]), linear([[2.0], [-3.0]])
    updates = [Update(PA, query, 1.0, 1), Update(PA, value, 1.0, 2)]
    collector = Collector(["activation", "gate"], {PA: [query.weight, value.weight]}, updates, CPU)
    collector.begin_micro_batch(torch.tensor([[1]]))
    with collector.watching():
        hidden = torch.tensor([[[2.0]]])
        (5.0 * query(hidden).sum() + value(hidden).sum()).backward()
    collector.step([query.weight.grad, value.weight.grad], collector.micro_batch_vector())
    thetas = collector.thetas()
    # outputs 2; 4 and -6
    assert thetas["activation"] == pytest.approx({PA: 12 / 3})
    # 5 * 2 + 4 - 6
    assert thetas["gate"] == pytest.approx({PA: 8.0})


def test_the_scale_of_an_update_counts_once():
    plain, scaled = Toy(toy_layers()), Toy(toy_layers(), scale=0.5)
    for toy in (plain, scaled):
        toy.batch(HIDDEN, MASK, V)
    for name in ("activation", "gate"):
        assert scaled.theta(name) == pytest.approx({slot: 0.5 * theta for slot, theta in plain.theta(name).items()})


def test_a_scaled_loss_changes_no_score():
    plain, scaled = Toy(toy_layers()), Toy(toy_layers())
    for factor in (1.0, 8.0):
        plain.batch(HIDDEN, MASK, V)
        scaled.batch(HIDDEN, MASK, V, loss_scale=1024 * factor)
    for name in ALL:
        assert scaled.theta(name) == pytest.approx(plain.theta(name)), name


# halves of the pass


def test_halves_are_every_other_step():
    weight = parameter(1.0, -2.0)
    collector = Collector(["gradient", "sensitivity"], {PA: [weight]}, [], CPU)
    for gradient in ([2.0, 4.0], [1.0, 0.0], [6.0, 0.0]):
        collector.step([torch.tensor(gradient)], torch.zeros(collector.vector_size))
    # means 3, 0.5 and 3; (2 + 8) / 2, 0.5 and 3
    assert collector.halves() == {"gradient": {PA: (3.0, 0.5)}, "sensitivity": {PA: (4.0, 0.5)}}
    assert collector.thetas() == {"gradient": {PA: 6.5 / 3}, "sensitivity": {PA: 8.5 / 3}}


def test_halves_of_outputs_weigh_tokens_within_each_half():
    toy = Toy({PA: linear([[1.0]])}, ["activation", "gate"])
    toy.batch([[[2.0], [4.0]]], [[1, 1]], [1.0])
    toy.batch([[[7.0]]], [[1]], [1.0])
    toy.batch([[[9.0]]], [[1]], [1.0])
    halves = toy.collector.halves()
    assert halves["activation"] == {PA: ((2 + 4 + 9) / 3, 7.0)}
    assert halves["gate"] == {PA: ((6 + 9) / 2, 7.0)}


def test_halves_of_weights_are_every_other_entry_below_one_threshold():
    parameters = {PA: [parameter(1.0, 2.0, 3.0), parameter(0.0)], SA: [parameter(5.0)]}
    halves = Collector(["weight", "zeros", "threshold"], parameters, [], CPU, threshold=1.5).halves()
    # 1 and 3; 2 and 0; a module of one entry has no halves
    assert halves == {"weight": {PA: (5.0, 2.0)}, "zeros": {PA: (1.0, 0.5)}, "threshold": {PA: (0.5, 0.5)}}


def test_one_step_has_no_halves():
    toy = Toy(toy_layers())
    toy.batch(HIDDEN, MASK, V)
    assert set(toy.collector.halves()) == {"weight", "zeros", "threshold"}


def test_a_state_brings_the_halves_back_exactly():
    whole, first, second = (Toy(toy_layers()) for _ in range(3))
    for toy in (whole, first):
        toy.batch(HIDDEN, MASK, V)
    second.collector.load(first.collector.state())
    for toy in (whole, second):
        toy.batch([[[0.1, 0.7], [0.3, 0.3], [1.0, 1.0]]], MASK, V)
        toy.batch(HIDDEN, MASK, V)
    assert second.collector.halves() == whole.collector.halves()
    assert second.collector.thetas() == whole.collector.thetas()


# invariances


def test_scores_do_not_depend_on_the_order_of_slots_and_modules():
    layers = toy_layers() | {SA1: linear([[0.0, 4.0], [-1.0, 0.5]]), PA1: linear([[7.0, 2.0], [1.0, 1.0]])}
    thetas = []
    for order in ([PA, SA, PA1, SA1], [SA1, PA, SA, PA1], [PA1, SA1, SA, PA]):
        toy = Toy(layers, order=order)
        toy.batch(HIDDEN, MASK, V)
        thetas.append(toy.collector.thetas())
    assert thetas[0] == thetas[1] == thetas[2]


def test_micro_batches_add_up_in_any_grouping():
    examples = [[[1.0, 1.0], [2.0, -1.0]], [[0.5, 0.0], [9.0, 9.0]], [[-3.0, 2.0], [1.0, 0.0]]]
    masks = [[1, 1], [1, 0], [1, 1]]
    thetas = []
    for groups in ([[0, 1, 2]], [[0], [1], [2]], [[2], [0, 1]]):
        toy = Toy(toy_layers())
        for _ in range(2):
            vectors = [toy.micro_batch([examples[i] for i in g], [masks[i] for i in g], V) for g in groups]
            toy.step(sum(vectors))
        thetas.append(toy.collector.thetas())
    for name in ALL:
        assert thetas[1][name] == pytest.approx(thetas[0][name], rel=1e-6)
        assert thetas[2][name] == pytest.approx(thetas[0][name], rel=1e-6)


def test_a_micro_batch_leaves_nothing_behind():
    toy = Toy(toy_layers())
    first = toy.micro_batch(HIDDEN, MASK, V)
    second = toy.micro_batch(HIDDEN, MASK, V)
    assert torch.equal(first, second)
    assert first.shape == (toy.collector.vector_size,)
    assert not any(layer._forward_hooks for layer in toy.layers.values())


def test_evaluation_between_steps_does_not_count():
    toy = Toy(toy_layers())
    with toy.collector.watching(), torch.no_grad():
        for layer in toy.layers.values():
            layer(torch.full((4, 7, 2), 100.0))
    toy.batch(HIDDEN, MASK, V)
    assert toy.theta("activation") == pytest.approx({PA: 7 / 4, SA: 6 / 4})


def test_only_what_is_asked_for_is_collected():
    toy = Toy(toy_layers(), ["gradient"])
    assert toy.collector.vector_size == 1
    assert list(toy.collector.thetas()) == ["gradient"]


def test_scores_asked_for_before_any_step_are_zero_or_those_of_the_weights():
    thetas = Toy(toy_layers()).collector.thetas()
    assert thetas["gradient"] == thetas["gate"] == thetas["activation"] == {PA: 0.0, SA: 0.0}
    assert thetas["weight"] == {PA: 1.25, SA: 1.0}


def test_nothing_is_copied_to_the_host_before_the_end(monkeypatch):
    toy = Toy(toy_layers())

    def refuse(*_args, **_kwargs):
        raise AssertionError("a copy to the host")

    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__"):
            patch.setattr(torch.Tensor, name, refuse)
        for _ in range(2):
            toy.batch(HIDDEN, MASK, V)
    assert toy.theta("gate") == pytest.approx({PA: 3.0, SA: 12.0})


def test_scores_are_plain_numbers():
    toy = Toy(toy_layers())
    toy.batch(HIDDEN, MASK, V)
    for row in toy.collector.thetas().values():
        assert all(type(theta) is float for theta in row.values())


# defects of the released code that ours must not share


def test_released_code_activation_added_up_from_module_to_module():
    # with equal modules on equal inputs, later ones looked stronger and the first layers were always removed
    slots = [Slot(layer, "PA") for layer in range(5)]
    toy = Toy({slot: linear([[1.0, 0.0], [0.0, -2.0]]) for slot in slots}, ["activation"])
    toy.batch(HIDDEN, MASK, V)
    assert toy.theta("activation") == pytest.approx(dict.fromkeys(slots, 7 / 4))


def test_released_code_activation_read_one_batch_only():
    toy = Toy({PA: linear([[1.0]])}, ["activation"])
    for value in (1.0, 2.0, 6.0):
        toy.batch([[[value]]], [[1]], [1.0])
    assert toy.theta("activation") == pytest.approx({PA: 3.0})


def test_released_code_activation_of_adapters_read_the_first_example_only():
    toy = Toy({SA: linear([[1.0]])}, ["activation"])
    toy.batch([[[1.0]], [[2.0]], [[6.0]]], [[1], [1], [1]], [1.0])
    assert toy.theta("activation") == pytest.approx({SA: 3.0})


def test_released_code_sensitivity_kept_the_sign_of_the_weight():
    # w * |g| would cancel to zero
    assert of_steps("sensitivity", {PA: [parameter(2.0, -2.0)]}, [[1.0, 1.0]]) == {PA: 2.0}


def test_released_code_weight_divided_by_the_size_twice():
    # big modules went first, for being big
    thetas = of_weights(
        ["weight"], {PA: [nn.Parameter(torch.full((2,), 3.0))], PA1: [nn.Parameter(torch.full((50, 4), 3.0))]}
    )
    assert thetas["weight"] == {PA: 9.0, PA1: 9.0}


def test_released_code_weight_took_the_minimum_over_tensors():
    thetas = of_weights(["weight"], {PA: [parameter(0.0, 0.0), parameter(2.0, 2.0)]})
    assert thetas["weight"] == {PA: 2.0}


def test_released_code_gradient_took_the_absolute_value_after_summing_over_batches():
    parameters = {PA: [parameter(1.0, -2.0)]}
    opposite = [[[3.0, -1.0]], [[-3.0, 1.0]]]
    assert of_steps("gradient", parameters, *opposite) == {PA: 2.0}
    assert of_steps("sensitivity", parameters, *opposite) == {PA: 2.5}
