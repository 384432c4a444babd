import random
import subprocess
import sys
import time
from itertools import combinations

import numpy as np
import pytest
import torch
from baseline_toys import answer, drive, failure, make_problem, merit

from prunepeft_baselines import autopeft as module
from prunepeft_baselines.autopeft import AUTOPEFT, AutoPEFTOptions
from prunepeft_baselines.candidates import first_candidates
from prunepeft_baselines.random_search import RANDOM_SEARCH
from prunepeft_ray import InputError, NoOptions, RunError, hypervolume, pareto_front


def build(problem, **options):
    return AUTOPEFT.build(problem, AutoPEFTOptions(**{"surrogate": "gp", "arithmetic": "closed-form", **options}))


def architectures(work):
    return [piece.job.architecture for piece in work]


@pytest.mark.parametrize("space", ["aligned", "autopeft"])
def test_as_many_candidates_as_asked_for_are_evaluated_none_twice(space):
    problem = make_problem(layers=4, evaluations=21)
    method = build(problem, space=space)
    work = drive(method)
    assert len(work) == len(set(architectures(work))) == 21 == method.planned
    assert problem.fits(method.best())
    if space == "aligned":
        assert all(map(problem.fits, architectures(work)))
    else:
        assert not all(map(problem.fits, architectures(work)))


def test_batches_are_handed_out_whole():
    problem = make_problem(evaluations=20)
    method = build(problem, initial=9, batch=4)
    sizes = []
    while not method.done:
        batch = method.ask()
        sizes.append(len(batch))
        for piece in batch:
            assert method.ask() == ()
            method.tell(piece.job, answer(piece))
    assert sizes == [9, 4, 4, 3]


def test_half_of_the_evaluations_are_the_random_start_that_other_searches_share():
    problem = make_problem(evaluations=12)
    assert architectures(build(problem).ask()) == first_candidates(problem, 6)


def test_the_best_on_dev_within_budget_is_the_answer():
    problem = make_problem(evaluations=20)
    method = build(problem)
    work = drive(method)
    assert merit(method.best(), 0.5) == max(merit(a, 0.5) for a in architectures(work))


def test_the_own_space_answers_within_budget_though_it_looks_beyond():
    problem = make_problem(layers=3, budget=400, evaluations=16)
    method = build(problem, space="autopeft")
    # the more parameters the better
    work = drive(method, lambda piece: answer_with(piece, problem.parameters(piece.job.architecture)))
    within = [a for a in architectures(work) if problem.fits(a)]
    assert method.best() == max(within, key=problem.parameters)
    assert len(within) < len(work)


def answer_with(piece, value):
    result = answer(piece)
    result.metrics["accuracy"] = value
    return result


def test_the_pareto_front_is_what_nothing_within_budget_beats():
    problem = make_problem(layers=3, budget=900, evaluations=16)
    method = build(problem, space="autopeft")
    told = architectures(drive(method))
    front = method.pareto()
    within = {a: merit(a, 0.5) for a in told if problem.fits(a)}
    assert set(front) == set(pareto_front(within, problem.parameters))
    assert method.best() == front[-1]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_results_changes_nothing(seed):
    problem = make_problem(evaluations=16)
    expected = build(problem)
    work = drive(expected)
    method = build(problem)
    assert set(architectures(drive(method, shuffle=random.Random(seed)))) == set(architectures(work))
    assert method.best() == expected.best()
    assert method.pareto() == expected.pareto()


@pytest.mark.parametrize(
    ("told", "arithmetic"),
    [(3, "closed-form"), (8, "closed-form"), (10, "closed-form"), (13, "closed-form"), (10, "botorch")],
)
def test_telling_a_fresh_method_some_of_the_results_restores_it(told, arithmetic):
    """Also in the middle of the initial design (8) or of a batch, whose other members must not be lost."""
    problem = make_problem(evaluations=16)
    work = drive(build(problem, arithmetic=arithmetic))
    done = {piece.job.id for piece in random.Random(0).sample(work[: told + 3], told)}
    fresh = build(problem, arithmetic=arithmetic)
    again, waiting = [], []
    while batch := fresh.ask():
        again += batch
        known = [piece for piece in batch if piece.job.id in done]
        waiting += [piece for piece in batch if piece.job.id not in done]
        for piece in reversed(known):
            fresh.tell(piece.job, answer(piece))
    for piece in waiting:
        fresh.tell(piece.job, answer(piece))
    assert [piece.job.id for piece in again + drive(fresh)] == [piece.job.id for piece in work]


@pytest.mark.parametrize("arithmetic", ["botorch", "closed-form"])
def test_nothing_depends_on_the_clock_or_on_global_random_states(monkeypatch, arithmetic):
    problem = make_problem(evaluations=14)
    expected = [piece.job.id for piece in drive(build(problem, arithmetic=arithmetic))]
    monkeypatch.setattr(time, "time", lambda: 12345.0)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert [piece.job.id for piece in drive(build(problem, arithmetic=arithmetic))] == expected
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_another_seed_searches_elsewhere():
    runs = [architectures(drive(build(make_problem(evaluations=14, seed=seed)))) for seed in (0, 1)]
    assert runs[0] != runs[1]


def test_an_exhausted_space_ends_the_search():
    problem = make_problem(layers=3, kinds=("PA",), budget=512, evaluations=50)
    method = build(problem)
    work = drive(method)
    assert len(work) == 6  # three slots alone, three pairs
    assert merit(method.best(), 0.5) == max(merit(a, 0.5) for a in architectures(work))


def test_failures_count_as_evaluations_and_never_win():
    problem = make_problem(layers=6, evaluations=24)
    dear = problem.space.supernet.slots[-2]

    def reply(piece):
        return failure(piece) if dear in piece.job.architecture else answer(piece)

    method = build(problem, initial=8)
    work = drive(method, reply)
    assert len(work) == 24
    assert dear not in method.best()
    later = [dear in a for a in architectures(work[8:])]
    # the surrogate learns from the worst value that failures are given
    assert sum(later) < 0.4 * len(later)


def test_without_a_success_there_is_no_answer():
    method = build(make_problem(evaluations=8))
    with pytest.raises(RunError, match="autopeft: none of the 0 candidates"):
        method.best()
    drive(method, failure)
    with pytest.raises(RunError, match="out of memory"):
        method.best()


def test_no_front_is_known_before_anything_was_told():
    assert build(make_problem()).pareto() == []


def dominated(problem, chosen):
    """Dominated share of the box between no merit and the best, no parameters and the budget."""
    points = [(merit(a), problem.parameters(a)) for a in chosen]
    return hypervolume(points, (0, problem.budget)) / (sum(merit_of_slots(problem)) * problem.budget)


def merit_of_slots(problem):
    space = problem.space
    return [merit(space.supernet.without(set(space.supernet.slots) - {slot})) for slot in space.supernet.slots]


def without_noise(piece):
    return answer(piece, noise=0)


def test_it_beats_random_search_in_hypervolume_at_equal_evaluations():
    ours, chance, optimum = [], [], []
    for seed in range(4):
        problem = make_problem(layers=6, evaluations=60, seed=seed)
        full = problem.space.supernet
        subsets = (full.without(gone) for n in range(12) for gone in combinations(full.slots, n))
        optimum.append(dominated(problem, [a for a in subsets if problem.fits(a)]))
        searches = (ours, build(problem, initial=20)), (chance, RANDOM_SEARCH.build(problem, NoOptions()))
        for values, method in searches:
            values.append(dominated(problem, architectures(drive(method, without_noise))))
    assert all(mine > other for mine, other in zip(ours, chance, strict=True))
    # of what random search leaves to be gained it gains most
    left = [(mine - other) / (top - other) for mine, other, top in zip(ours, chance, optimum, strict=True)]
    assert sum(left) / len(left) > 0.6, left


def test_for_the_metric_alone_it_finds_better_than_random_search():
    for seed in range(3):
        problem = make_problem(layers=8, evaluations=60, seed=seed)
        method, other = build(problem, objectives="single", initial=20), RANDOM_SEARCH.build(problem, NoOptions())
        for search in (method, other):
            drive(search, without_noise)
        assert merit(method.best()) > merit(other.best())


@pytest.mark.slow
def test_the_fully_bayesian_surrogate_beats_random_search_too():
    problem = make_problem(layers=6, evaluations=40)
    method, other = build(problem, surrogate="saas"), RANDOM_SEARCH.build(problem, NoOptions())
    ours, chance = (dominated(problem, architectures(drive(search, without_noise))) for search in (method, other))
    assert ours > chance + 0.02


@pytest.mark.parametrize(("surrogate", "package", "title"), [("gp", "botorch", "BoTorch"), ("saas", "jax", "JAX")])
def test_a_missing_package_is_an_error_that_names_the_extra(monkeypatch, surrogate, package, title):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == package else "there")
    with pytest.raises(InputError, match=rf"^method 'autopeft' needs {title}: pip install 'prunepeft-ray\[bayes\]'$"):
        build(make_problem(), surrogate=surrogate)


def test_listing_the_method_loads_nothing_heavy():
    heavy = "botorch", "jax", "numpyro", "scipy"
    code = f"import prunepeft_baselines.autopeft, sys; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
