import random
from collections import Counter

import pytest
from baseline_toys import answer, drive, make_problem, merit

from prunepeft_baselines.autopeft import AUTOPEFT, AutoPEFTOptions
from prunepeft_baselines.autopeft_asha import AUTOPEFT_ASHA, AutoPEFTAshaOptions
from prunepeft_ray import InputError

FAST = {"surrogate": "gp", "arithmetic": "closed-form"}


def build(problem, **options):
    return AUTOPEFT_ASHA.build(problem, AutoPEFTAshaOptions(**{**FAST, "max_epochs": 9, **options}))


def test_the_proposals_of_autopeft_are_halved_over_epochs():
    problem = make_problem(layers=4, evaluations=18)
    method = build(problem)
    work = drive(method)
    assert Counter(piece.job.training.epochs for piece in work) == {1: 18, 3: 6, 9: 2}
    assert method.planned == len(work) == 26
    alone = drive(AUTOPEFT.build(problem, AutoPEFTOptions(**FAST)))
    assert [piece.job.id for piece in work[:18]] == [piece.job.id for piece in alone]
    longest = [piece.job.architecture for piece in work if piece.job.training.epochs == 9]
    assert method.best() == max(longest, key=lambda a: merit(a, 0.5))


def test_only_what_is_within_budget_goes_on():
    problem = make_problem(layers=3, budget=400, evaluations=16)
    work = drive(build(problem, space="autopeft"))
    fits = {piece.job.id: problem.fits(piece.job.architecture) for piece in work}
    assert not all(fits.values())
    assert all(fits[piece.job.id] for piece in work if piece.job.training.epochs > 1)


def test_the_order_of_results_changes_nothing():
    problem = make_problem(layers=4, evaluations=14)
    expected, method = build(problem), build(problem)
    first, second = drive(expected), drive(method, answer, random.Random(1))
    assert {piece.job.id for piece in first} == {piece.job.id for piece in second}
    assert method.best() == expected.best()


def test_rungs_that_cannot_be_are_an_error_that_names_the_method():
    with pytest.raises(InputError, match=r"^method 'autopeft-asha': the first rung"):
        build(make_problem(), min_epochs=10)
