import itertools
import math
from dataclasses import replace

import pandas as pd
import pytest
from comparison_fakes import COST, MODEL, TASK, StudyFake
from hypothesis import given, settings
from hypothesis import strategies as st

from prunepeft_ray.analysis import CostAccount, best_so_far, compare_methods
from prunepeft_ray.analysis.charges import charged_jobs
from prunepeft_ray.analysis.statistics import Difference, Estimate
from prunepeft_ray.errors import InputError
from prunepeft_ray.jobs import Cost

TREC = "packaged:trec"


@pytest.fixture
def study(tmp_path):
    return StudyFake(tmp_path)


def rows_of(study, task=TASK, **more):
    return {row.method: row for row in compare_methods(study.store, **more).rows if row.task == task}


# --- metrics


def test_metrics_are_means_over_retrainings_first_and_over_searches_then(study):
    study.search("prunepeft", 0, [0.6, 0.8], [0.5, 0.6])
    study.search("prunepeft", 1, [0.9], [0.75])
    study.search("prunepeft", 2, [0.7, 0.8, 0.9], [0.9, 0.8, 0.7])
    row = rows_of(study)["prunepeft"]
    # searches 0.7, 0.9, 0.8, not the mean of the six retrainings
    assert row.tests == pytest.approx({0: 0.7, 1: 0.9, 2: 0.8})
    assert (row.test.n, row.test.mean, row.test.deviation) == pytest.approx((3, 0.8, 0.1))
    assert row.dev.mean == pytest.approx((0.55 + 0.75 + 0.8) / 3)
    # variances of retraining 0.02 and 0.01
    assert row.retraining_deviation == pytest.approx(math.sqrt(0.015))
    assert (row.done, row.retrained, row.retrainings_missing, row.metric) == (3, 6, 3, "accuracy")


def test_one_search_has_a_mean_and_nothing_more(study):
    study.search("prunepeft", 0, [0.6])
    row = rows_of(study)["prunepeft"]
    assert row.test == Estimate(1, 0.6)
    assert row.retraining_deviation is None


def test_failed_searches_and_retrainings_are_counted_and_have_no_metric(study):
    study.search("prunepeft", 0, [0.6])
    study.search("prunepeft", 1, [0.1], status="failed", reason="over budget", architecture_id="", parameters=0)
    failed = study.job("final", status="failed", reason="out of memory", test={"accuracy": 0.0})
    study.ask("prunepeft", 0, failed, "final", retrain_seed=1)
    row = rows_of(study)["prunepeft"]
    assert (row.done, row.failed, row.missing) == (1, 1, 0)
    assert (row.retrained, row.retrainings_failed, row.retrainings_missing) == (1, 1, 0)
    assert row.test == Estimate(1, 0.6)
    assert row.parameters_min == row.parameters_max == 900


# --- what was found


def test_parameters_are_exact_and_compared_with_the_budget(study):
    study.search("prunepeft", 0, [0.6], parameters=1000)
    study.search("prunepeft", 1, [0.6], parameters=700)
    study.search("random-search", 0, [0.6], parameters=1001)
    study.search("full", 0, [0.6], parameters=100_000, reference=True)
    rows = rows_of(study)
    assert (rows["prunepeft"].parameters_min, rows["prunepeft"].parameters_max) == (700, 1000)
    assert rows["prunepeft"].percent == pytest.approx(1.0)
    assert [rows[m].within_budget for m in ("prunepeft", "random-search", "full")] == [True, False, False]
    assert [rows[m].role for m in ("prunepeft", "random-search", "full")] == ["method", "method", "reference"]


def test_the_front_has_what_nothing_beats_in_metric_and_parameters(study):
    points = {"a": (0.8, 900), "b": (0.8, 900), "c": (0.7, 900), "d": (0.7, 500), "e": (0.8, 901), "f": (0.9, 950)}
    for method, (test, parameters) in points.items():
        study.search(method, 0, [test], parameters=parameters)
    study.ask("g", 0, study.job())
    assert {method for method, row in rows_of(study).items() if row.pareto} == {"a", "b", "d", "f"}


def test_a_row_competes_on_its_own_task_alone(study):
    study.search("a", 0, [0.5])
    study.search("b", 0, [0.9], task=TREC)
    assert rows_of(study)["a"].pareto
    assert rows_of(study, TREC)["b"].pareto


# --- costs


def test_every_cost_of_search_and_retraining_is_summed_apart(study):
    study.candidate("tpe", 0, 0.5)
    study.ask("tpe", 0, study.job(cost=Cost(400, 0, 5, 1e9, 1.0, 2.0, 5_000_000)))
    study.end("tpe", 0, evaluations=1, proposal_seconds=0.25)
    study.retrain("tpe", 0, [0.6, 0.7])
    study.candidate("tpe", 1, 0.5)
    study.end("tpe", 1, evaluations=2, proposal_seconds=0.75)
    study.retrain("tpe", 1, [0.6, 0.7])
    row = rows_of(study)["tpe"]
    assert row.search == CostAccount(1.5, 1.5, 1000, 2.5, 27.5, 4.5e9, 6.5, 4.0, 0.5, 5_000_000)
    assert row.retraining == CostAccount(0, 2, 1600, 4, 50, 8e9, 12, 6, 0, 1_000_000)
    assert row.single_retraining == CostAccount(0, 1, 800, 2, 25, 4e9, 6, 3, 0, 1_000_000)
    assert row.total == CostAccount(3, 7, 5200, 13, 155, 25e9, 37, 20, 1, 5_000_000)


def test_what_was_redone_is_counted_beside_the_cost_and_not_in_it(study):
    for seed, redone in ((0, 100), (1, 50)):
        study.ask("prunepeft", seed, study.job(cost=replace(COST, redone_examples=redone)))
        study.end("prunepeft", seed)
        study.retrain("prunepeft", seed, [0.6])
    row = rows_of(study)["prunepeft"]
    assert (row.search.redone, row.retraining.redone, row.total.redone) == (75, 0, 150)
    assert row.search.examples == 800


def test_a_shared_job_is_charged_to_every_search_and_computed_once(study):
    shared = study.job()
    for method in ("prunepeft", "no-partition"):
        study.ask(method, 0, shared)
        study.end(method, 0)
    comparison = compare_methods(study.store)
    assert [row.search.examples for row in comparison.rows] == [800, 800]
    assert comparison.computed.examples == 800


def test_a_job_asked_for_twice_by_one_search_is_charged_once(study):
    job_id = study.job()
    study.ask("prunepeft", 0, job_id)
    study.ask("prunepeft", 0, job_id)
    assert rows_of(study)["prunepeft"].search.jobs == 1


def test_the_mean_cost_is_that_of_whole_searches_but_the_total_leaves_nothing_out(study):
    study.search("prunepeft", 0, [0.6], rounds=3)
    study.search("prunepeft", 1, [], rounds=2, status="failed")
    study.ask("prunepeft", 2, study.job())
    row = rows_of(study)["prunepeft"]
    assert (row.search.jobs, row.search_ended, row.total.jobs) == (3, True, 7)


def test_a_job_that_failed_is_charged(study):
    study.ask("prunepeft", 0, study.job(status="failed", reason="out of memory"))
    study.end("prunepeft", 0)
    assert rows_of(study)["prunepeft"].search.device_seconds == 6


@st.composite
def asked(draw):
    """Searches that ask for a few of few jobs: pairs of search and job."""
    number = st.integers(0, 3)
    return draw(st.lists(st.tuples(number, number, number, st.booleans()), max_size=8))


@settings(max_examples=10, deadline=None)
@given(asked=asked())
def test_searches_are_charged_for_no_less_than_was_computed(tmp_path_factory, asked):
    study = StudyFake(tmp_path_factory.mktemp("study"))
    jobs = [study.job(cost=replace(COST, train_examples=100 * (i + 1), flops=1.0 * i)) for i in range(4)]
    for method, seed, job, final in asked:
        study.ask(f"method-{method}", seed, jobs[job], "final" if final else "round")
    comparison = compare_methods(study.store)
    pairs = {(method, seed, job) for method, seed, job, _ in asked}
    assert sum(row.total.jobs for row in comparison.rows) == len(pairs)
    assert comparison.computed.jobs == len({job for *_, job in pairs})
    for name in ("jobs", "examples", "epochs", "steps", "flops", "device_seconds", "wall_seconds"):
        charged = sum(getattr(row.total, name) for row in comparison.rows)
        assert charged >= getattr(comparison.computed, name) - 1e-9


# --- differences to prunepeft


def test_differences_are_paired_on_the_seed(study):
    for seed, (ours, theirs) in enumerate([(0.5, 0.6), (0.6, 0.8), (0.65, 0.95)]):
        study.search("prunepeft", seed, [ours, ours])
        study.search("random-search", seed, [theirs, theirs])
    study.search("random-search", 7, [0.0])
    rows = rows_of(study)
    found = rows["random-search"].difference
    assert (found.n, found.mean, found.df, found.p) == pytest.approx((3, 0.2, 2, 0.0741799))
    assert (found.low, found.high) == pytest.approx((-0.0484138, 0.4484138))
    assert rows["prunepeft"].difference == Difference()


def test_a_method_without_chance_differs_by_the_error_of_its_own_retrainings(study):
    for seed, ours in enumerate([(0.5, 0.6), (0.7, 0.6)]):
        study.search("prunepeft", seed, ours)
        study.search("uniform-lora", seed, [0.4, 0.2])
    rows = rows_of(study)
    # 0.1, 0.4; 0.3, 0.4: searches 0.25, 0.35, retrainings 0.2, 0.4: variance 0.005 / 2 + 0.02 / 2
    found = rows["uniform-lora"].difference
    assert (found.mean, found.df) == pytest.approx((-0.3, 0.0125**2 / (0.0025**2 + 0.01**2)))
    # 0.4 and 0.2 under two seeds, however many searches found that: t(0.975, 1) = 12.7062047
    own = rows["uniform-lora"].test
    assert (own.deviation, own.low, own.high) == pytest.approx((0.0, 0.3 - 1.27062047, 0.3 + 1.27062047))


def test_over_all_every_task_counts_once_with_the_mean_over_its_models_and_pairs(study):
    for seed in (0, 1):
        study.search("prunepeft", seed, [0.5])
        study.search("asha", seed, [0.5 + (seed + 1) / 10])
    study.search("prunepeft", 0, [0.5], task=TREC)
    study.search("asha", 0, [0.55], task=TREC)
    (overall,) = compare_methods(study.store).overall
    # 0.1 and 0.2 on one task, 0.05 on the other
    assert (overall.places, overall.pairs, overall.difference.n) == (2, 3, 2)
    assert overall.difference.mean == pytest.approx((0.15 + 0.05) / 2)


def test_over_all_tasks_pairs_keep_task_and_seed(study):
    for task, ours in ((TASK, (0.5, 0.6)), (TREC, (0.9, 0.95))):
        for seed in (0, 1):
            study.search("prunepeft", seed, [ours[seed]], task=task)
    study.search("asha", 0, [0.4], task=TASK)
    study.search("asha", 1, [0.8], task=TREC)
    (overall,) = compare_methods(study.store).overall
    # differences -0.1 and -0.15: mean -0.125, deviation 0.0353553, t(0.975, 1) = 12.7062047
    assert (overall.method, overall.places, overall.difference.n) == ("asha", 2, 2)
    assert overall.difference.mean == pytest.approx(-0.125)
    assert overall.difference.low == pytest.approx(-0.125 - 12.7062047 * 0.025)
    # one degree of freedom: p = 1 - 2 atan(5) / pi
    assert overall.difference.p == pytest.approx(1 - 2 * math.atan(5) / math.pi)


def test_without_prunepeft_nothing_is_compared_with_it(study):
    study.search("asha", 0, [0.4])
    comparison = compare_methods(study.store)
    assert comparison.overall == ()
    assert comparison.rows[0].difference == Difference()


def test_p_is_corrected_for_the_methods_of_a_place_and_not_for_rows_outside_the_contest(study):
    values = {"prunepeft": 0.5, "a": 0.6, "b": 0.52, "single:weight": 0.7, "single:zeros": 0.8, "full": 0.9}
    for method, value in values.items():
        for task, seed in itertools.product((TASK, TREC), (0, 1)):
            noise = 0.01 * seed * len(method) + 0.003 * len(method) * (task == TREC)
            study.search(method, seed, [value + noise] * 2, rounds=0, reference=method == "full", task=task)
    comparison = compare_methods(study.store)
    for found in ({row.method: row for row in rows} for rows in (comparison.rows, comparison.overall)):
        family = ["a", "b", "single:weight", "single:zeros"]
        ps = {name: found[name].difference.p for name in family}
        smallest = min(ps, key=ps.get)
        assert found[smallest].difference.p_holm == pytest.approx(min(1.0, 4 * ps[smallest]))
        for name in ("full", "best single (dev)", "best single (oracle)"):
            assert found[name].difference.p is not None
            assert found[name].difference.p_holm is None


# --- the best single criterion


def add_singles(study):
    for seed in (0, 1):
        study.search("single:weight", seed, [0.6 + seed / 10], [0.9, 0.9], rounds=1)
        study.search("single:zeros", seed, [0.8 + seed / 10], [0.7, 0.7], rounds=2)
        study.search("prunepeft", seed, [0.7])


def test_the_honest_choice_is_made_on_dev_and_the_oracle_on_test(study):
    add_singles(study)
    rows = rows_of(study)
    honest, oracle = rows["best single (dev)"], rows["best single (oracle)"]
    assert (honest.role, honest.chosen, oracle.role, oracle.chosen) == (
        "choice",
        "single:weight",
        "oracle",
        "single:zeros",
    )
    assert honest.test == rows["single:weight"].test
    assert oracle.test == rows["single:zeros"].test
    assert (honest.difference.mean, oracle.difference.mean) == pytest.approx((-0.05, 0.15))
    assert not (honest.pareto or oracle.pareto)


def test_a_choice_among_criteria_costs_all_of_them(study):
    add_singles(study)
    rows = rows_of(study)
    for name in ("best single (dev)", "best single (oracle)"):
        assert (rows[name].search.jobs, rows[name].search.examples) == (3, 2400)
        assert rows[name].retraining.jobs == 2
        assert rows[name].single_retraining.jobs == 1
        assert rows[name].done == 4


def test_the_choice_is_made_for_every_task(study):
    add_singles(study)
    study.search("single:weight", 0, [0.6], [0.5], task=TREC)
    study.search("single:zeros", 0, [0.5], [0.6], task=TREC)
    assert rows_of(study)["best single (dev)"].chosen == "single:weight"
    assert rows_of(study, TREC)["best single (dev)"].chosen == "single:zeros"
    overall = {row.method: row for row in compare_methods(study.store).overall}
    assert overall["best single (oracle)"].role == "oracle"
    assert overall["best single (oracle)"].pairs == 2


@pytest.mark.parametrize("others", [[], [("single:zeros", [])]])
def test_there_is_no_choice_among_one(study, others):
    study.search("single:weight", 0, [0.6])
    for method, tests in others:
        study.search(method, 0, tests)
    assert not {row.role for row in compare_methods(study.store).rows} & {"choice", "oracle"}


# --- unfinished studies


def test_an_empty_store_has_an_empty_comparison(study):
    comparison = compare_methods(study.store)
    assert (comparison.rows, comparison.overall, comparison.computed) == ((), (), CostAccount())
    assert best_so_far(charged_jobs(study.store)).empty
    assert comparison.frame().empty


def test_an_unfinished_study_shows_what_is_there(study):
    study.search("prunepeft", 0, [0.6])
    study.end("prunepeft", 1)
    study.candidate("tpe", 0, 0.5)
    study.candidate("tpe", 0, 0.6)
    rows = rows_of(study)
    assert (rows["prunepeft"].missing, rows["prunepeft"].retrainings_missing) == (0, 1)
    running = rows["tpe"]
    assert (running.done, running.failed, running.missing) == (0, 0, 2)
    assert (running.search.jobs, running.search.evaluations, running.search_ended) == (2, 2, False)
    assert (running.test, running.parameters_max, running.within_budget) == (Estimate(), None, None)
    assert (running.budget, running.backbone_parameters) == (1000, 100_000)


def test_planned_searches_that_have_not_begun_are_missing(study):
    study.search("prunepeft", 0, [0.6])
    planned = [
        (MODEL, task, method, seed) for task in (TASK, TREC) for method in ("prunepeft", "asha") for seed in (0, 1)
    ]
    assert {method: row.missing for method, row in rows_of(study, planned=planned).items()} == {
        "prunepeft": 1,
        "asha": 2,
    }
    assert rows_of(study, TREC, planned=planned)["asha"].missing == 2
    assert rows_of(study)["prunepeft"].missing == 0


def test_requests_whose_job_is_not_there_cost_nothing(study):
    study.ask("prunepeft", 0, "0123456789abcdef")
    study.ask("prunepeft", 0, study.job())
    assert rows_of(study)["prunepeft"].total.jobs == 1


def test_results_of_two_studies_are_not_mixed(study):
    study.ask("prunepeft", 0, study.job())
    study.ask("prunepeft", 1, study.job(), run_id="another")
    with pytest.raises(InputError, match=r"2 studies.*0123456789ab, another") as caught:
        compare_methods(study.store)
    assert "\n" not in str(caught.value)


def test_rows_come_in_order_with_prunepeft_first_and_references_last(study):
    add_singles(study)
    study.search("asha", 0, [0.5])
    study.search("full", 0, [0.5], reference=True)
    assert [row.method for row in compare_methods(study.store).rows] == [
        "prunepeft",
        "asha",
        "single:weight",
        "single:zeros",
        "best single (dev)",
        "best single (oracle)",
        "full",
    ]


def test_the_frame_has_a_row_per_method_and_a_column_per_number(study):
    add_singles(study)
    frame = compare_methods(study.store).frame().set_index("method")
    assert frame.loc["prunepeft", "test_mean"] == pytest.approx(0.7)
    assert frame.loc["single:zeros", "search_examples"] == 1600
    assert frame.loc["best single (oracle)", "chosen"] == "single:zeros"
    assert frame.loc["single:weight", "difference_mean"] == pytest.approx(-0.05)
    assert bool(frame.loc["prunepeft", "within_budget"])
    assert not [name for name in frame.columns if name.startswith("tests")]


# --- best so far against cost


def test_the_best_so_far_is_that_of_candidates_within_budget(study):
    study.ask("tpe", 0, study.job())
    study.candidate("tpe", 0, 0.9, parameters=1001)
    study.candidate("tpe", 0, 0.5, parameters=1000)
    study.candidate("tpe", 0, 0.4)
    study.candidate("tpe", 0, 0.7, cost=Cost(train_examples=200, flops=1e9, device_seconds=1.0))
    study.candidate("tpe", 0, 0.8, status="failed", reason="out of memory")
    study.retrain("tpe", 0, [0.99])
    study.candidate("asha", 1, 0.1)
    study.search("prunepeft", 0, [0.6])
    curves = best_so_far(charged_jobs(study.store))
    assert list(curves.method) == ["asha"] + ["tpe"] * 5
    tpe = curves[curves.method == "tpe"]
    assert list(tpe.position) == [1, 2, 3, 4, 5]
    assert list(tpe.evaluations) == [1, 2, 3, 4, 5]
    assert list(tpe.examples) == [1600, 2400, 3200, 3400, 4200]
    assert list(tpe.epochs) == [4, 6, 8, 8.5, 10.5]
    assert list(tpe.device_seconds) == [12, 18, 24, 25, 31]
    assert list(tpe.flops) == [8e9, 12e9, 16e9, 17e9, 21e9]
    assert pd.isna(tpe.value.iloc[0])
    assert list(tpe.value.iloc[1:]) == [0.5, 0.5, 0.7, 0.7]
    assert curves.value.iloc[0] == 0.1
