import logging

import optuna
import pytest
from baseline_toys import answer, drive, failure, make_problem
from optuna.trial import TrialState

from prunepeft_baselines.optuna_search import OPTUNA_NSGA2, OPTUNA_TPE, OptunaOptions
from prunepeft_ray import Architecture


@pytest.fixture
def studies(monkeypatch):
    """The studies that are created, as they are."""
    created = []
    create = optuna.create_study

    def spy(**arguments):
        created.append(create(**arguments))
        return created[-1]

    monkeypatch.setattr(optuna, "create_study", spy)
    return created


def filled(trial):
    return {name for name, on in trial.params.items() if on}


def test_a_study_is_told_metric_parameters_and_how_far_over_budget(studies):
    problem = make_problem(layers=6, evaluations=16)
    method = OPTUNA_TPE.build(problem, OptunaOptions())
    merits = {p.job.architecture: answer(p).metrics["accuracy"] for p in drive(method)}
    supernet = problem.space.supernet
    told = [t for t in studies[0].trials if t.state == TrialState.COMPLETE]
    trained = [t for t in told if t.constraints["budget"] <= 0]
    assert len(trained) == len(merits) == 16
    for trial in told:
        architecture = Architecture.of({s: m for s, m in supernet if str(s) in filled(trial)})
        assert trial.values[1] == problem.parameters(architecture)
        assert trial.constraints["budget"] == pytest.approx(problem.parameters(architecture) / problem.budget - 1)
        if trial in trained:
            assert trial.values[0] == merits[architecture]


def test_over_budget_proposals_are_told_as_infeasible_and_trained_never(studies):
    problem = make_problem(layers=8, evaluations=30, budget=1200)
    work = drive(OPTUNA_TPE.build(problem, OptunaOptions()))
    over = [t for t in studies[0].trials if t.constraints.get("budget", 0) > 0]
    assert over
    assert len(work) == 30
    assert all(problem.fits(piece.job.architecture) for piece in work)
    metrics = [answer(piece).metrics["accuracy"] for piece in work]
    assert all(min(metrics) < trial.values[0] < max(metrics) for trial in over)


def test_with_every_try_used_up_a_uniform_unseen_architecture_is_taken(studies):
    # 3 slots: 7 architectures, all within budget; random proposals repeat, and so does the sampler
    problem = make_problem(layers=3, kinds=["PA"], budget=10**6, evaluations=7)
    work = drive(OPTUNA_TPE.build(problem, OptunaOptions(tries=1)))
    assert len({piece.job.architecture for piece in work}) == 7
    refused = [t for t in studies[0].trials if t.state == TrialState.FAIL]
    assert refused


def test_a_failed_candidate_is_told_as_failed(studies):
    problem = make_problem(layers=6, evaluations=4)
    drive(OPTUNA_TPE.build(problem, OptunaOptions(startup=2)), failure)
    trials = studies[0].trials
    assert not [t for t in trials if t.state == TrialState.COMPLETE and t.constraints["budget"] <= 0]


@pytest.mark.parametrize(("evaluations", "expected"), [(4, [2, 2]), (12, [4, 4, 4]), (40, [10, 4])])
def test_few_evaluations_start_with_few_random_ones(evaluations, expected):
    method = OPTUNA_TPE.build(make_problem(layers=6, evaluations=evaluations), OptunaOptions())
    for size in expected:
        batch = method.ask()
        assert len(batch) == size
        for piece in batch:
            method.tell(piece.job, answer(piece))


def test_the_first_generation_of_nsga2_is_its_population(studies):
    method = OPTUNA_NSGA2.build(make_problem(layers=6, evaluations=24), OptunaOptions())
    assert len(method.ask()) == 6
    assert studies[0].sampler.population_size == 6


def test_studies_are_named_and_report_no_trials(studies):
    optuna.logging.set_verbosity(logging.INFO)
    drive(OPTUNA_TPE.build(make_problem(layers=4, evaluations=4), OptunaOptions()))
    assert studies[0].study_name.startswith("optuna-tpe-")
    assert optuna.logging.get_verbosity() == logging.WARNING
