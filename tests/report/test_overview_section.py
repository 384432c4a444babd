from dataclasses import replace

import pytest
from comparison_fakes import TASK
from pages import METHODS, make_study
from scipy import stats

from prunepeft_ray.analysis import open_results, open_several
from prunepeft_ray.report.blocks import Figure, Table
from prunepeft_ray.report.sections.overview import overview_section, runs_section


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("overview") / "study")


def of(section, kind, task=TASK):
    return next(block for block in section.blocks if isinstance(block, kind) and block.scope["task"] == task)


def test_every_method_stands_at_its_mean_and_at_what_an_answer_costs(results):
    traces = {trace.name: trace for trace in of(overview_section(results), Figure).plot.data}
    assert list(traces) == list(METHODS)
    # 0.71 and 0.77 over two searches; two rounds and a retraining of two passes each
    assert traces["prunepeft"].y[0] == pytest.approx(0.74)
    assert traces["prunepeft"].x[0] == pytest.approx(6.0)
    assert traces["random-search"].x[0] == pytest.approx(8.0)
    # searches 0.03 ** 2, retraining seeds (0.73 and 0.75) 0.01 ** 2; 0.001 ** 2 / (0.0009 ** 2 + 0.0001 ** 2) degrees
    half = stats.t.ppf(0.975, 1 / 0.82) * 0.001**0.5
    assert traces["prunepeft"].error_y.array[0] == pytest.approx(half)


def test_methods_can_be_told_apart_without_colour(results):
    traces = of(overview_section(results), Figure).plot.data
    assert len({trace.marker.symbol for trace in traces}) == len(traces)


def test_the_table_says_how_many_searches_and_retrainings_its_means_are_over(results):
    table = of(overview_section(results), Table)
    assert table.basis.n == "2 searches per method, each retrained under 2 seeds"
    assert (table.basis.seeds, table.basis.split) == ("0, 1", "test")
    assert table.text.iloc[0].to_list()[:3] == ["prunepeft", "0.7400 ± 0.0424 (2)", "–"]


def test_searches_that_are_missing_are_marked(tmp_path):
    section = overview_section(make_study(tmp_path / "study", whole=False))
    table = of(section, Table, "packaged:trec")
    assert "uniform-lora: 1 search missing" in table.basis.marks
    assert table.basis.n.startswith("1 to 2 searches")


def test_runs_are_set_side_by_side_without_averaging(tmp_path, results):
    make_study(tmp_path / "other")
    other = open_results(tmp_path / "other")
    section = runs_section([results, other])
    table = of(section, Table)
    assert list(table.data.run) == ["study"] * 3 + ["other"] * 3
    assert len(of(section, Figure).plot.data) == 2
    assert "study: 2 searches" in table.basis.n


def test_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path):
    for folder in ("a", "b"):
        make_study(tmp_path / folder / "run")
    labels = [results.label for results in open_several([tmp_path / "a" / "run", tmp_path / "b" / "run"])]
    assert labels == [str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")]


def test_references_are_hollow(results, monkeypatch):
    rows = [replace(row, role="reference") if row.method == "uniform-lora" else row for row in results.comparison.rows]
    shown = open_results(results.run.path)
    shown.__dict__["comparison"] = replace(results.comparison, rows=tuple(rows))
    symbols = {trace.name: trace.marker.symbol for trace in of(overview_section(shown), Figure).plot.data}
    assert symbols["uniform-lora"].endswith("-open")
    assert not symbols["prunepeft"].endswith("-open")
