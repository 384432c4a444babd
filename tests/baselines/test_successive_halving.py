from dataclasses import replace

import pytest
from baseline_toys import answer, drive, failure, make_problem, merit

from prunepeft_baselines.candidates import first_candidates
from prunepeft_baselines.random_search import RANDOM_SEARCH
from prunepeft_baselines.successive_halving import ASHA, HalvingOptions, halve, planned_jobs
from prunepeft_ray import CandidateConfig, InputError, NoOptions


def collect(steps, reply):
    """Run a generator of work; return its batches and what it returned."""
    batches, batch = [], next(steps)
    while True:
        batches.append(batch)
        try:
            batch = steps.send({piece.job.id: reply(piece) for piece in batch})
        except StopIteration as stop:
            return batches, stop.value


def test_the_best_third_goes_on_three_times_as_long():
    problem = make_problem(layers=6)
    candidates = first_candidates(problem, 10)
    batches, rungs = collect(halve(problem, candidates, [1, 3, 9], 3, "x"), lambda p: answer(p, noise=0))
    ranked = sorted(candidates, key=lambda a: -merit(a))
    assert [len(batch) for batch in batches] == [10, 3, 1]
    assert [{piece.job.training.epochs for piece in batch} for batch in batches] == [{1}, {3}, {9}]
    assert [set(rung) for rung in rungs] == [set(candidates), set(ranked[:3]), set(ranked[:1])]
    assert batches[1][0].label == "x, rung 2/3: 1/3"


def test_a_failure_never_goes_on_and_leaves_its_place_to_the_next():
    problem = make_problem(layers=6)
    candidates = first_candidates(problem, 6)
    ranked = sorted(candidates, key=lambda a: -merit(a))

    def reply(piece):
        return failure(piece) if piece.job.architecture == ranked[0] else answer(piece, noise=0)

    _, rungs = collect(halve(problem, candidates, [1, 2], 2, "x"), reply)
    assert list(rungs[1]) == ranked[1:4]
    assert rungs[0][ranked[0]].status == "failed"


def test_one_goes_on_as_long_as_any_succeeds_and_none_if_none_does():
    problem = make_problem(layers=6)
    candidates = first_candidates(problem, 2)
    batches, _ = collect(halve(problem, candidates, [1, 3, 9], 3, "x"), answer)
    assert [len(batch) for batch in batches] == [2, 1, 1]
    batches, rungs = collect(halve(problem, candidates, [1, 3, 9], 3, "x"), failure)
    assert len(batches) == len(rungs) == 1


def test_every_rung_is_a_training_from_scratch_of_its_own_length():
    problem = make_problem(layers=6)
    (first,), (second,) = collect(halve(problem, first_candidates(problem, 1), [1, 3], 3, "x"), answer)[0]
    assert first.job.id != second.job.id
    assert replace(first.job, training=second.job.training) == second.job


@pytest.mark.parametrize(
    ("options", "rungs"),
    [
        ({}, [2, 6, 18]),
        ({"eta": 2}, [2, 4, 8, 16]),
        ({"min_epochs": 1, "max_epochs": 9}, [1, 3, 9]),
        ({"max_epochs": 5}, [2]),
        ({"min_epochs": 30}, [30]),
    ],
)
def test_rungs_rise_from_the_candidates_epochs_to_the_final_retrainings(options, rungs):
    problem = make_problem(candidate=CandidateConfig(epochs=2))
    assert HalvingOptions(**options).rungs(problem, "asha") == rungs


def test_a_first_rung_above_the_longest_is_an_input_error():
    with pytest.raises(InputError, match="method 'asha': the first rung has 9 epochs, more than max_epochs=3"):
        ASHA.build(make_problem(), HalvingOptions(min_epochs=9, max_epochs=3))


def test_planned_jobs_hand_counted():
    assert planned_jobs(12, 3, 3) == 12 + 4 + 1
    assert planned_jobs(2, 3, 3) == 2 + 1 + 1


def test_asha_starts_from_what_random_search_evaluates_and_shares_its_jobs():
    problem = make_problem(layers=6)
    halving = ASHA.build(problem, HalvingOptions())
    assert [p.job.id for p in RANDOM_SEARCH.build(problem, NoOptions()).ask()] == [p.job.id for p in halving.ask()]


def test_the_answer_is_the_best_of_the_last_rung_even_if_a_shorter_one_looked_better():
    problem = make_problem(layers=6)
    method = ASHA.build(problem, HalvingOptions(max_epochs=3))
    work = drive(method, lambda p: answer(p, noise=0) if p.job.training.epochs == 1 else halved(p))
    longest = [p.job.architecture for p in work if p.job.training.epochs == 3]
    assert method.best() == max(longest, key=merit)


def halved(piece):
    result = answer(piece, noise=0)
    return replace(result, metrics={"accuracy": result.metrics["accuracy"] / 10})
