import pytest
from baseline_toys import make_problem
from hypothesis import given
from hypothesis import strategies as st

from prunepeft_baselines.uniform import LORA_RANK, UNIFORM_ADAPTER, UNIFORM_DORA, UNIFORM_LORA
from prunepeft_ray import InputError, Module, NoOptions, Slot
from prunepeft_ray.config import validate

# hidden size 32, 4 layers: LoRA 2 * 64 r a layer, DoRA 64 more, an adapter 65 b + 32
CASES = {
    "uniform-lora": (UNIFORM_LORA, "PA", "lora", 512, 0),
    "uniform-dora": (UNIFORM_DORA, "PA", "dora", 512, 256),
    "uniform-adapter": (UNIFORM_ADAPTER, "SA", "pfeiffer", 260, 128),
}
each = pytest.mark.parametrize("name", CASES)


def build(info, problem):
    return info.build(problem, NoOptions())


@each
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("kinds", [["PA", "SA"], ["PT"]])
def test_the_size_is_the_largest_that_fits_in_every_layer(name, size, kinds):
    info, kind, module_type, per_size, fixed = CASES[name]
    exact = per_size * size + fixed
    for budget in (exact, exact + per_size - 1):
        problem = make_problem(kinds=kinds, budget=budget)
        best = build(info, problem).best()
        assert dict(best) == {Slot(layer, kind): Module(module_type, size) for layer in range(4)}
        assert problem.parameters(best) == exact


@each
def test_it_needs_no_search(name):
    method = build(CASES[name][0], make_problem(budget=5000))
    assert method.name == name
    assert method.done
    assert method.ask() == ()
    assert method.planned == 0


@each
def test_a_budget_below_size_one_says_what_it_takes(name):
    info, _, _, per_size, fixed = CASES[name]
    need = per_size + fixed
    with pytest.raises(
        InputError, match=f"method '{name}': a budget of {need - 1} parameters is too small: .* needs {need}"
    ):
        build(info, make_problem(budget=need - 1))


@given(layers=st.integers(1, 12), budget=st.integers(1, 40_000))
def test_the_next_size_would_be_over_budget(layers, budget):
    for info, kind, module_type, _, _ in CASES.values():
        problem = make_problem(layers, budget=budget)
        try:
            best = build(info, problem).best()
        except InputError:
            size = 0
        else:
            assert problem.fits(best)
            size = best[Slot(0, kind)].size
        larger = Module(module_type, size + 1)
        assert sum(problem.cost(Slot(n, kind), module_type).parameters(larger.size) for n in range(layers)) > budget


@pytest.mark.parametrize("budget", [1, 100_000])
@pytest.mark.parametrize("kinds", [["PA", "SA"], ["SA"]])
@pytest.mark.parametrize(("rank", "parameters"), [(1, 512), (8, 4096)])
def test_a_given_rank_is_that_rank_in_every_layer_whatever_the_budget(rank, parameters, kinds, budget):
    problem = make_problem(kinds=kinds, budget=budget)
    method = LORA_RANK.build(problem, LORA_RANK.options(rank=rank))
    assert (method.name, method.done, method.ask(), method.planned) == ("lora-rank", True, (), 0)
    assert dict(method.best()) == {Slot(layer, "PA"): Module("lora", rank) for layer in range(4)}
    assert problem.parameters(method.best()) == parameters


def test_the_largest_rank_within_the_budget_is_uniform_lora():
    problem = make_problem(budget=5 * 512)
    given_rank = LORA_RANK.build(problem, LORA_RANK.options(rank=5))
    assert given_rank.best() == build(UNIFORM_LORA, problem).best()


def test_a_given_rank_is_a_row_to_compare_with_and_must_be_a_rank():
    assert LORA_RANK.reference
    assert validate(LORA_RANK.options, {LORA_RANK.argument: "8"}, "method 'lora-rank:8'").rank == 8
    for wrong in ("0", "-1", "2.5", "eight"):
        with pytest.raises(InputError, match=f"^method 'lora-rank': rank: .*, got '{wrong}'$"):
            validate(LORA_RANK.options, {"rank": wrong}, "method 'lora-rank'")
    with pytest.raises(InputError, match="'rank' is missing"):
        validate(LORA_RANK.options, {}, "method 'lora-rank'")
