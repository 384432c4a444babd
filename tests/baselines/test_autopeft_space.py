import random
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from baseline_toys import make_problem
from hypothesis import given
from hypothesis import strategies as st

from prunepeft_baselines.autopeft_space import AlignedCoding, OwnCoding
from prunepeft_ray import InputError, Module, ModuleCost, Slot


def own(hidden=32, layers=4, budget=10**9, bounded=False):
    return OwnCoding(replace(make_problem(layers=layers, budget=budget), hidden=hidden), bounded)


def sizes(hidden):
    """Module sizes of the own space, in the order of their codes; 0 is absent."""
    coding = own(hidden, layers=1)
    found = []
    for k in range(coding.choices[0]):
        code = (k, coding.choices[1] - 1, coding.choices[2] - 1, 1)
        found.append(coding.architecture(code)[Slot(0, "SA")].size if coding.valid(code) else 0)
    return found


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        (768, [768, 384, 192, 96, 48, 24, 12, 6, 3, 1, 0]),
        (1024, [1024, 512, 256, 128, 64, 32, 16, 8, 4, 1, 0]),
        (576, [576, 288, 144, 72, 36, 18, 9, 4, 2, 1, 0]),
        (384, [384, 192, 96, 48, 24, 12, 6, 3, 1, 0]),
        (32, [32, 16, 8, 4, 2, 1, 0]),
    ],
)
def test_sizes_follow_from_the_hidden_size_of_the_model(hidden, expected):
    assert sizes(hidden) == expected


def test_the_own_space_of_a_base_model_has_all_its_choices():
    assert own(hidden=768, layers=12).choices == (11, 11, 11) + (2,) * 12


def test_a_code_of_the_own_space_gives_the_same_modules_to_the_layers_that_are_on():
    architecture = own(hidden=768, layers=3).architecture((5, 10, 8, 1, 0, 1))
    assert {str(slot): (module.type, module.size) for slot, module in architecture} == {
        "SA.0": ("pfeiffer", 24),
        "PT.0": ("prefix", 3),
        "SA.2": ("pfeiffer", 24),
        "PT.2": ("prefix", 3),
    }
    assert own(hidden=768, layers=1).architecture((10, 2, 10, 1))[Slot(0, "PF")] == Module("parallel", 192)


def test_neither_no_layer_nor_no_module_is_an_architecture():
    coding = own(hidden=768, layers=2)
    assert not coding.valid((0, 0, 0, 0, 0))
    assert not coding.valid((10, 10, 10, 1, 1))
    assert coding.valid((10, 10, 9, 0, 1))


def test_the_surrogate_sees_k_tenths_and_switches():
    assert own(hidden=768, layers=2).unit((0, 5, 10, 1, 0)) == (0, 0.5, 1, 1, 0)
    # of the equal sizes of a small model the first is kept
    assert own(hidden=32, layers=1).unit((1, 5, 6, 1)) == (0.1, 0.5, 1, 1)


@given(st.integers(0, 10**6), st.booleans())
def test_own_codes_cost_what_their_architectures_cost_and_none_stands_for_two(seed, bounded):
    problem = make_problem(layers=4, budget=3000)
    coding = OwnCoding(problem, bounded)
    rng = random.Random(seed)
    code = coding.initial(2, rng)[1]
    near = coding.neighbours(code, rng)
    for other in [code, *near]:
        assert coding.valid(other)
        assert coding.parameters(other) == problem.parameters(coding.architecture(other))
        assert not bounded or coding.parameters(other) <= problem.budget
    assert len({coding.architecture(other) for other in [code, *near]}) == 1 + len(near)
    assert all(sum(a != b for a, b in zip(code, other, strict=True)) == 1 for other in near)


def test_own_neighbours_are_all_codes_with_one_other_choice():
    coding = own(hidden=32, layers=2)
    code = (6, 6, 5, 1, 0)
    everything = [other for other in product(*map(range, coding.choices)) if coding.valid(other)]
    expected = {other for other in everything if sum(a != b for a, b in zip(code, other, strict=True)) == 1}
    assert set(coding.neighbours(code, random.Random(0))) == expected


def test_the_initial_design_of_the_own_space_is_half_within_budget():
    coding = own(hidden=32, layers=4, budget=1000)
    design = coding.initial(20, random.Random(0))
    assert len(set(design)) == 20
    assert all(coding.parameters(code) <= 1000 for code in design[::2])
    assert any(coding.parameters(code) > 1000 for code in design[1::2])


@pytest.mark.parametrize("uneven", [False, True])
def test_draws_of_the_own_space_are_uniform_within_budget(uneven):
    problem = make_problem(layers=2, budget=700)
    extra = 300 if uneven else 0
    coding = OwnCoding(
        replace(problem, hidden=4, cost=lambda slot, _: ModuleCost(100 + extra * slot.layer, 50)), bounded=True
    )
    codes = [code for code in product(*map(range, coding.choices)) if coding.valid(code)]
    assert_uniform(coding, codes)


def test_draws_of_the_shared_space_are_uniform_within_budget():
    coding = AlignedCoding(make_problem(layers=2, budget=700))
    assert_uniform(coding, [code for code in product((0, 1), repeat=4) if coding.valid(code)])


def assert_uniform(coding, codes):
    rng = random.Random(0)
    each = 200
    counts = Counter(coding.draw(rng) for _ in range(each * len(codes)))
    assert set(counts) == set(codes)
    assert len(codes) > 4
    statistic = sum((counts[code] - each) ** 2 / each for code in codes)
    assert statistic < len(codes) + 4 * (2 * len(codes)) ** 0.5


def test_a_budget_that_the_own_space_cannot_meet_is_an_error_of_one_line():
    with pytest.raises(
        InputError, match=r"budget of 5 parameters is too small for its own space.* architecture has \d+$"
    ):
        own(budget=5)


@given(st.integers(0, 10**6), st.integers(256, 3000))
def test_aligned_codes_and_their_neighbours_are_within_budget(seed, budget):
    problem = make_problem(layers=6, budget=budget)
    coding = AlignedCoding(problem)
    rng = random.Random(seed)
    code = coding.draw(rng)
    near = coding.neighbours(code, rng)
    for other in [code, *near]:
        architecture = coding.architecture(other)
        assert coding.valid(other)
        assert coding.code(architecture) == other
        assert coding.parameters(other) == problem.parameters(architecture) <= budget
    assert code not in near
    assert len(set(near)) == len(near)
    assert all(sum(a != b for a, b in zip(code, other, strict=True)) <= 2 for other in near)


def test_at_the_edge_of_the_budget_a_slot_is_exchanged():
    problem = make_problem(layers=3, kinds=("PA",), budget=512)  # two slots
    near = AlignedCoding(problem).neighbours((1, 1, 0), random.Random(0))
    assert set(near) >= {(0, 1, 0), (1, 0, 0)}
    assert {(0, 1, 1), (1, 0, 1)} & set(near)
    assert len(near) == 3


def test_unseen_codes_run_out():
    coding = AlignedCoding(make_problem(layers=3, kinds=("PA",), budget=256))
    first = coding.unseen(2, random.Random(0), ())
    assert len(set(first)) == 2
    rest = coding.unseen(5, random.Random(0), first)
    assert len(rest) == 1
    assert set(first + rest) == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
