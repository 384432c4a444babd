"""What all searches of candidates promise, one by one."""

import random
from itertools import count
from statistics import mean

import pytest
from baseline_toys import answer, drive, failure, make_problem, merit
from hypothesis import given, settings
from hypothesis import strategies as st

from prunepeft_baselines.optuna_search import OPTUNA_GP, OPTUNA_NSGA2, OPTUNA_TPE, OptunaOptions
from prunepeft_baselines.random_search import RANDOM_SEARCH
from prunepeft_baselines.sampling import FeasibleSampler
from prunepeft_baselines.successive_halving import ASHA
from prunepeft_ray import InputError, RunError

INFOS = {"random-search": RANDOM_SEARCH, "asha": ASHA, "optuna-tpe": OPTUNA_TPE, "optuna-nsga2": OPTUNA_NSGA2}
each = pytest.mark.parametrize("name", INFOS)


def build(name, problem, **options):
    return INFOS[name].build(problem, INFOS[name].options(**options))


def ids(work):
    return [piece.job.id for piece in work]


@each
def test_the_same_seed_proposes_the_same_and_another_does_not(name):
    first, again, other = (build(name, make_problem(layers=6, seed=seed)) for seed in (1, 1, 2))
    assert ids(drive(first)) == ids(drive(again)) != ids(drive(other))
    assert first.best() == again.best()
    assert first.name == name


@each
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_results_within_a_batch_does_not_matter(name, seed):
    straight, shuffled = build(name, make_problem(layers=6)), build(name, make_problem(layers=6))
    work = drive(straight)
    assert ids(drive(shuffled, shuffle=random.Random(seed))) == ids(work)
    assert shuffled.best() == straight.best()


@each
@pytest.mark.parametrize("stored", [3, 9])
def test_replaying_what_was_stored_restores_the_search(name, stored):
    whole = build(name, make_problem(layers=6))
    work = drive(whole)
    known = {piece.job.id: answer(piece) for piece in work[:stored]}
    run = []

    def from_the_store(piece):
        if piece.job.id not in known:
            run.append(piece.job.id)
        return known.get(piece.job.id) or answer(piece)

    resumed = build(name, make_problem(layers=6))
    drive(resumed, from_the_store, shuffle=random.Random(0))
    assert sorted(run) == sorted(ids(work[stored:]))
    assert resumed.best() == whole.best()


@each
@given(
    layers=st.integers(1, 5),
    kinds=st.sampled_from([("PA",), ("SA",), ("PA", "SA"), ("PA", "SA", "PT")]),
    share=st.floats(0.01, 1.2),
    evaluations=st.integers(1, 14),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=15)
def test_everything_fits_the_budget_and_nothing_is_trained_twice(name, layers, kinds, share, evaluations, seed):
    whole = make_problem(layers, kinds)
    budget = int(share * whole.space.parameters(whole.space.supernet))
    problem = make_problem(layers, kinds, budget, seed, evaluations)
    smallest = min(map(problem.space.slot_parameters, problem.space.supernet.slots))
    if budget < smallest:
        with pytest.raises(InputError, match="is too small for any slot"):
            build(name, problem)
        return
    method = build(name, problem)
    work = drive(method)
    started = {piece.job.architecture for piece in work}
    assert all(len(a) and problem.parameters(a) <= budget for a in started)
    assert len(started) == min(evaluations, FeasibleSampler(problem.space, budget).count)
    assert len(set(ids(work))) == len(work) == method.planned
    assert problem.fits(method.best())


@each
def test_a_failed_candidate_does_not_end_the_search(name):
    number = count()
    method = build(name, make_problem(layers=6))
    work = drive(method, lambda piece: failure(piece) if next(number) % 3 == 0 else answer(piece))
    assert len({piece.job.architecture for piece in work}) == 12
    failed = {piece.job.architecture for piece in work[::3]}
    assert method.best() in {piece.job.architecture for piece in work} - failed


@each
def test_when_every_candidate_fails_there_is_no_answer(name):
    method = build(name, make_problem(layers=6))
    drive(method, failure)
    with pytest.raises(RunError, match=f"{name}: none of the 12 candidates"):
        method.best()


def test_random_search_asks_for_everything_at_once():
    assert len(build("random-search", make_problem(layers=6)).ask()) == 12


def beats_random(info, options, problems):
    gained = [merit(run(info, options, p).best()) - merit(run(RANDOM_SEARCH, None, p).best()) for p in problems]
    return mean(gained)


def run(info, options, problem):
    method = info.build(problem, options)
    drive(method, lambda piece: answer(piece, noise=0))
    return method


def test_tpe_beats_random_search_on_an_easy_objective():
    problems = [make_problem(layers=8, seed=seed, evaluations=40) for seed in range(4)]
    # a good slot in the top layer is worth 8 of about 40
    assert beats_random(OPTUNA_TPE, OptunaOptions(), problems) > 1


@pytest.mark.slow
def test_the_gaussian_process_beats_random_search_on_an_easy_objective():
    problems = [make_problem(layers=6, seed=seed, evaluations=20) for seed in range(3)]
    assert beats_random(OPTUNA_GP, OptunaOptions(), problems) > 0


def test_the_gaussian_process_repeats_itself_within_budget_whatever_the_order_of_results():
    # proposals take Optuna half a second each, so they are few
    options = OptunaOptions(startup=2, batch=2)
    problem = make_problem(kinds=["PA"], evaluations=4)
    first, again = (OPTUNA_GP.build(problem, options) for _ in range(2))
    work = drive(first)
    assert ids(drive(again, shuffle=random.Random(1))) == ids(work)
    assert len(set(ids(work))) == 4
    assert all(problem.fits(piece.job.architecture) for piece in work)
    assert first.best() == again.best()
