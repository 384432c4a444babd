import pandas as pd
import pytest
from comparison_fakes import COST, MODEL, TASK, StudyFake

from prunepeft_ray.analysis import open_results
from prunepeft_ray.analysis.catalog import DERIVED
from prunepeft_ray.analysis.cost_frames import STEPS
from prunepeft_ray.pareto import pareto_front
from prunepeft_ray.results import RunFolder
from prunepeft_ray.study import StudySpec

FRAMES = ("final_metrics", "differences", "points", "hypervolumes", "cost_curves", "published")


@pytest.fixture
def study(tmp_path):
    spec = StudySpec(
        methods=("prunepeft", "random-search", "full"), tasks=(TASK,), models=(MODEL,), seeds=(0, 1), budget="1%"
    )
    RunFolder.create(tmp_path, spec)
    return StudyFake(tmp_path)


@pytest.fixture
def whole(study):
    """Answers of 800 and 1,000 parameters, a reference above the budget, and two searches among candidates."""
    for seed in (0, 1):
        study.search("prunepeft", seed, [0.70, 0.80], parameters=800 + 200 * seed, rounds=2)
        study.search("full", seed, [0.95], parameters=100_000, reference=True, rounds=0)
        for dev, parameters in ((0.5, 500), (0.7, 1000), (0.6, 800), (0.9, 1001), (0.6, 900)):
            study.candidate("random-search", seed, dev + 0.05 * seed, parameters=parameters)
        study.search("random-search", seed, [0.85], parameters=1000, rounds=0, evaluations=5)
    return study


def frame(study, name):
    return open_results(study.store.folder.parent)[name]


def of(found, method, seed=0, **more):
    for column, value in {"method": method, "seed": seed, **more}.items():
        found = found[found[column] == value]
    return found


@pytest.mark.parametrize("name", FRAMES)
def test_frames_have_exactly_the_columns_that_are_documented(whole, name):
    assert list(frame(whole, name).columns) == [column.name for column in DERIVED[name].columns]
    assert len(frame(whole, name))


@pytest.mark.parametrize("name", FRAMES)
def test_a_study_without_any_job_has_the_same_columns(study, name):
    assert list(frame(study, name).columns) == [column.name for column in DERIVED[name].columns]


def test_a_search_counts_with_the_mean_over_its_retrainings_and_what_it_cost(whole):
    row = of(frame(whole, "final_metrics"), "prunepeft", 1).iloc[0]
    assert (row.test, row.dev, row.retrainings) == pytest.approx((0.75, 0.80, 2))
    # two rounds of two passes; retraining is not the search's
    assert (row.examples, row.epochs, row.flops, row.device_seconds) == (1600, 4.0, 8e9, 12.0)
    assert (row.parameters, row.budget, row.status, row.role) == (1000, 1000, "done", "method")
    assert row.within_budget
    assert of(frame(whole, "final_metrics"), "random-search").evaluations.item() == 5
    full = of(frame(whole, "final_metrics"), "full").iloc[0]
    assert (full.role, full.within_budget, full.epochs) == ("reference", False, 0.0)


def test_searches_that_failed_or_are_missing_have_no_metric(study):
    study.search("prunepeft", 0, [0.9], status="failed", reason="over budget", parameters=0)
    found = frame(study, "final_metrics")
    assert found.groupby("status").size().to_dict() == {"failed": 1, "missing": 5}
    assert found[["test", "dev", "parameters", "within_budget"]].isna().all(axis=None)


def test_differences_are_those_of_the_comparison_by_place_and_over_all(whole):
    # 0.85 and 0.70 under the one seed of retraining that both have
    found = frame(whole, "differences").set_index(["task", "method"])
    for task in (TASK, "all"):
        assert found.loc[(task, "random-search"), ["pairs", "difference"]].to_list() == pytest.approx([2, 0.15])
    assert len(found) == 4


def test_candidates_are_on_the_front_of_their_own_search_and_answers_on_that_of_their_seed(whole):
    points = frame(whole, "points")
    candidates = of(points, "random-search", what="candidate")
    # 0.9 is above the budget; 0.6 at 900 is beaten by 0.6 at 800
    assert candidates[candidates.front].parameters.to_list() == [500, 1000, 800]
    answers = points[(points.what == "answer") & points.front]
    # with seed 1 prunepeft has as many parameters and a worse value
    assert set(zip(answers.method, answers.seed, strict=True)) == {
        ("prunepeft", 0),
        ("random-search", 0),
        ("random-search", 1),
    }
    assert not of(points, "full").front.any()


def test_fronts_are_those_of_the_rivals_own_rule(whole):
    for _, own in frame(whole, "points").query("what == 'candidate' and within_budget").groupby("seed"):
        expected = pareto_front(own.value.to_dict(), own.parameters.to_dict().__getitem__)
        assert set(own.index[own.front]) == set(expected)


def test_the_hypervolume_is_the_one_worked_out_by_hand(whole):
    found = frame(whole, "hypervolumes")
    row = of(found, "random-search", what="candidate").iloc[0]
    # of both searches from 0.5 to 0.75: the floor lies a tenth of 0.25 below, the limit a tenth above 1,000
    assert (row.reference_parameters, row.reference_value, row.best_value) == pytest.approx((1100, 0.475, 0.75))
    # heights 0.025, 0.125 and 0.225 of 0.275; from 500 to 800, to 1,000 and to 1,100
    area = 0.025 * 300 + 0.125 * 200 + 0.225 * 100
    assert row.hypervolume == pytest.approx(area / (0.275 * 1100))
    assert (row.points, row.front) == (4, 3)
    answer = of(found, "prunepeft", what="answer").iloc[0]
    # the worst answer: a tenth of the range is left of eleven, and 300 of 1,100 parameters
    assert answer.hypervolume == pytest.approx(1 / 11 * 300 / 1100)
    assert answer.split == "test"
    assert "full" not in set(found.method)


def test_where_all_values_are_equal_parameters_alone_count(study):
    study.search("prunepeft", 0, [0.7], parameters=880)
    study.search("random-search", 0, [0.7], parameters=550)
    found = frame(study, "hypervolumes").set_index("method").hypervolume
    assert found.to_dict() == pytest.approx({"prunepeft": 0.2, "random-search": 0.5})


def test_curves_average_searches_where_all_have_a_value_and_keep_that_of_one_that_has_ended(study):
    for dev in (0.5, 0.7):
        study.candidate("random-search", 0, dev)
    for dev, parameters in ((0.9, 2000), (0.4, 900), (0.3, 900), (0.8, 900)):
        study.candidate("random-search", 1, dev, parameters=parameters)
    curve = frame(study, "cost_curves").query("unit == 'evaluations'")
    # the second search has a candidate within the budget from its second on
    assert curve.cost.to_list() == [2, 3, 4]
    assert curve.value.to_list() == pytest.approx([(0.7 + 0.4) / 2, (0.7 + 0.4) / 2, (0.7 + 0.8) / 2])
    assert curve.lowest.to_list() == pytest.approx([0.4, 0.4, 0.7])
    assert curve.highest.to_list() == pytest.approx([0.7, 0.7, 0.8])
    epochs = frame(study, "cost_curves").query("unit == 'epochs'")
    assert epochs.cost.to_list() == [4, 6, 8]


def test_curves_hold_so_many_points_and_keep_both_ends(study):
    requests = [study.candidate("random-search", 0, 0.5, cost=COST) for _ in range(STEPS + 7)]
    curve = frame(study, "cost_curves").query("unit == 'evaluations'")
    assert len(curve) == STEPS
    assert (curve.cost.iloc[0], curve.cost.iloc[-1]) == (1, len(requests))


def test_published_numbers_have_their_source_and_averages_that_fit_or_a_note(whole):
    found = frame(whole, "published")
    assert found.source.str.startswith("PrunePEFT, arXiv 2506.07587, Table ").all()
    assert sorted(found.number.unique()) == [2, 3, 4, 5, 6]
    wide = found[found.number <= 3].pivot_table(index=["number", "row", "note"], columns="column", values="value")
    own = wide[["MNLI", "QNLI", "QQP", "RTE", "SST-2", "MRPC", "CoLA"]].mean(axis=1)
    odd = wide.index[(own - wide["avg"]).abs() > 0.051]
    assert {(number, row): note for number, row, note in odd} == {
        (2, "PrunePEFT, low fidelity"): "the row's own average is 87.2",
        (3, "PrunePEFT"): "the row's own average is 87.1",
    }
    assert own.loc[odd].round(1).to_list() == [87.2, 87.1]
    assert pd.isna(found[(found.number == 3) & (found.row == "DoRA") & (found.column == "% params")].value.item())
