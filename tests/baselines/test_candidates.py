import math
from dataclasses import replace

import pytest
from baseline_toys import answer, failure, make_problem

from prunepeft_baselines.candidates import CandidateSearch, best_first, first_candidates
from prunepeft_ray import Architecture, RunError, Slot, TrainResult


def of(problem, *slots):
    supernet = problem.space.supernet
    return Architecture.of({Slot.parse(text): supernet[Slot.parse(text)] for text in slots})


def told(problem, *entries):
    """A search that was told of each entry: slots, epochs, metric (None: failed)."""
    work = tuple(problem.candidate_work(of(problem, *slots), "x", epochs=epochs) for slots, epochs, _ in entries)

    def steps():
        yield work

    search = CandidateSearch("toy", problem, steps(), len(work))
    search.ask()
    for piece, (_, _, metric) in zip(work, entries, strict=True):
        result = failure(piece) if metric is None else replace(answer(piece), metrics={"accuracy": metric})
        search.tell(piece.job, result)
    return search


def test_the_best_is_the_highest_metric_of_the_highest_fidelity():
    problem = make_problem()
    search = told(problem, (["PA.0"], 1, 0.9), (["PA.1"], 3, 0.7), (["PA.2"], 3, 0.8))
    assert search.best() == of(problem, "PA.2")


def test_training_on_everything_is_a_higher_fidelity_than_on_a_subset():
    problem = make_problem()
    small, full = of(problem, "PA.0"), of(problem, "PA.1")
    work = (
        problem.candidate_work(small, "x", epochs=9, train_size=50),
        problem.candidate_work(full, "x", epochs=1),
    )

    def steps():
        yield work

    search = CandidateSearch("toy", problem, steps(), 2)
    search.ask()
    search.tell(work[0].job, replace(answer(work[0]), metrics={"accuracy": 0.9}))
    assert search.best() == small
    search.tell(work[1].job, replace(answer(work[1]), metrics={"accuracy": 0.1}))
    assert search.best() == full


def test_what_is_over_budget_or_failed_or_has_no_number_is_not_the_best():
    problem = make_problem(budget=300)  # a PA slot has 256 parameters
    search = told(
        problem,
        (["PA.0"], 1, 0.1),
        (["PA.0", "PA.1"], 1, 0.9),
        (["PA.1"], 1, math.nan),
        (["PA.2"], 9, None),
    )
    assert search.best() == of(problem, "PA.0")


def test_of_equal_metrics_the_smaller_wins_then_the_lower_id():
    problem = make_problem()
    pa0, pa1, sa0 = (of(problem, slot) for slot in ("PA.0", "PA.1", "SA.0"))
    assert problem.parameters(pa0) < problem.parameters(sa0)
    low, high = sorted((pa0, pa1), key=lambda architecture: architecture.id)
    assert best_first(problem, {sa0: 0.5, high: 0.5, low: 0.5}) == [low, high, sa0]
    assert told(problem, (["SA.0"], 1, 0.5), (["PA.0"], 1, 0.5), (["PA.1"], 1, 0.5)).best() == low


def test_without_a_success_the_error_is_one_line_with_a_reason():
    with pytest.raises(RunError, match=r"toy: none of the 1 candidates .*; one failed: out of memory$") as caught:
        told(make_problem(), (["PA.0"], 1, None)).best()
    assert "\n" not in str(caught.value)


def test_fewer_first_candidates_are_the_beginning_of_more():
    problem = make_problem(layers=8)
    assert first_candidates(problem, 9)[:4] == first_candidates(problem, 4)
    assert first_candidates(make_problem(layers=8, seed=1), 4) != first_candidates(problem, 4)


def test_metrics_of_other_names_do_not_decide():
    problem = make_problem()
    result = TrainResult(1, 1, (), 1, {"loss": 3.0})
    assert problem.value(result) == -math.inf
