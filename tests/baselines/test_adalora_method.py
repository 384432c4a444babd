import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainer_problem import make_problem

from prunepeft_baselines.adalora import ADALORA
from prunepeft_ray import InputError, Module

RANK_BERT = 4 * 2 * (32 + 32 + 1)
RANK_LLAMA = 5 * ((32 + 32 + 1) + (32 + 16 + 1))


def build(problem):
    return ADALORA.build(problem, ADALORA.options())


@given(st.sampled_from(["bert", "llama"]), st.integers(0, 20_000))
def test_no_rank_of_any_layer_is_left_over(tiny_models, family, more):
    one = RANK_BERT if family == "bert" else RANK_LLAMA
    problem = make_problem(tiny_models[family], one + more)
    method = build(problem)
    assert (method.name, method.done, method.ask()) == ("adalora", True, ())
    assert problem.fits(method.best())
    assert problem.parameters(method.best()) > problem.budget - one // problem.layers
    sizes = [module.size for _, module in method.best()]
    assert max(sizes) - min(sizes) <= 1
    assert [slot.kind for slot in method.best().slots] == ["PA"] * problem.layers


def test_a_budget_by_hand(tiny_bert):
    best = build(make_problem(tiny_bert, 5 * RANK_BERT)).best()
    assert {module for _, module in best} == {Module("adalora", 5)}
    best = build(make_problem(tiny_bert, 5 * RANK_BERT - 1)).best()
    assert [module.size for _, module in best] == [4, 5, 5, 5]


@pytest.mark.parametrize("budget", [150_001, 295_271, 1_000_000])
def test_of_a_real_budget_at_least_99_percent_is_used(budget):
    problem = make_problem("packaged:minilm", budget)
    assert 0.99 * budget <= problem.parameters(build(problem).best()) <= budget


def test_a_budget_below_rank_1_is_refused(tiny_bert):
    message = r"^method 'adalora': a budget of 519 parameters is too small: size 1 in every layer needs 520"
    with pytest.raises(InputError, match=message):
        build(make_problem(tiny_bert, RANK_BERT - 1))
