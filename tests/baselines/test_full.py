from trainer_problem import make_problem

from prunepeft_baselines.full import FULL
from prunepeft_ray.backbones import load_backbone


def test_it_is_the_whole_backbone_and_needs_no_search(tiny_bert, tiny_llama):
    for model in (tiny_bert, tiny_llama):
        problem = make_problem(model, 1000)
        method = FULL.build(problem, FULL.options())
        assert method.name == "full"
        assert method.done
        assert method.ask() == ()
        assert problem.parameters(method.best()) == load_backbone(model).parameters


def test_it_is_a_row_to_compare_with(tiny_bert):
    problem = make_problem(tiny_bert, 1000)
    assert FULL.reference
    assert not problem.fits(FULL.build(problem, FULL.options()).best())
