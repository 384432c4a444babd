import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainer_problem import make_problem

from baselines.adalora import ADALORA
from prunepeft_ray import InputError, Module

RANK_BERT = 4 * 2 * (32 + 32 + 1)
RANK_LLAMA = 5 * ((32 + 32 + 1) + (32 + 16 + 1))


def build(problem):
    return ADALORA.build(problem, ADALORA.options())


@given(st.sampled_from(["bert", "llama"]), st.integers(0, 20_000))
def test_it_is_the_largest_rank_within_the_budget(tiny_models, family, more):
    one = RANK_BERT if family == "bert" else RANK_LLAMA
    problem = make_problem(tiny_models[family], one + more)
    method = build(problem)
    assert (method.name, method.done, method.ask()) == ("adalora", True, ())
    assert problem.fits(method.best())
    assert problem.parameters(method.best()) > problem.budget - one
    assert len({module for _, module in method.best()}) == 1
    assert [slot.kind for slot in method.best().slots] == ["PA"] * problem.layers


def test_a_budget_by_hand(tiny_bert):
    best = build(make_problem(tiny_bert, 5 * RANK_BERT)).best()
    assert {module for _, module in best} == {Module("adalora", 5)}
    best = build(make_problem(tiny_bert, 5 * RANK_BERT - 1)).best()
    assert {module for _, module in best} == {Module("adalora", 4)}


def test_a_budget_below_rank_1_is_refused(tiny_bert):
    message = r"^method 'adalora': a budget of 519 parameters is too small: size 1 in every layer takes 520"
    with pytest.raises(InputError, match=message):
        build(make_problem(tiny_bert, RANK_BERT - 1))
