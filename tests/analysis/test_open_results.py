"""What open_results gives of finished, unfinished and damaged runs."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from comparison_fakes import StudyFake
from report_fakes import add_search, finish, start_run

import prunepeft_ray
from prunepeft_ray.analysis import best_so_far, compare_methods, compare_study, open_results
from prunepeft_ray.analysis.catalog import DERIVED
from prunepeft_ray.analysis.charges import charged_jobs
from prunepeft_ray.errors import InputError
from prunepeft_ray.results import TABLES, RunFolder
from prunepeft_ray.study import StudySpec


@pytest.fixture
def study(tmp_path):
    """A study of two methods and two seeds, of which one search has not begun."""
    spec = StudySpec(
        methods=("prunepeft", "random-search"),
        tasks=("packaged:movie",),
        models=("packaged:minilm",),
        seeds=(0, 1),
        budget="1%",
    )
    RunFolder.create(tmp_path / "study", spec)
    fake = StudyFake(tmp_path / "study")
    fake.search("prunepeft", 0, [0.75, 0.5])
    fake.search("prunepeft", 1, [0.5])
    fake.candidate("random-search", 0, 0.25)
    fake.candidate("random-search", 0, 0.5)
    fake.end("random-search", 0, evaluations=2)
    fake.retrain("random-search", 0, [0.25])
    return fake


def opened(study):
    return open_results(study.store.folder.parent)


def test_every_table_and_derived_frame_is_a_frame_with_the_documented_columns(study):
    results = opened(study)
    assert list(results) == [*TABLES, *DERIVED]
    assert len(results) == len(TABLES) + len(DERIVED)
    for name, columns in (TABLES | {name: frame.columns for name, frame in DERIVED.items()}).items():
        assert list(results[name].columns) == [column.name for column in columns], name
        assert results[name] is results.read(name)
    assert results.damaged == ()


def test_it_is_exported_at_the_top():
    assert prunepeft_ray.open_results is open_results


def test_an_unknown_frame_is_refused_with_the_nearest(study):
    with pytest.raises(InputError, match=r"unknown table 'method': did you mean 'methods'\?"):
        opened(study)["method"]


def test_the_frames_of_a_study_are_its_comparison(study):
    results, store = opened(study), study.store
    methods = results["methods"].set_index("method")
    # means of 0.75 and 0.5, and of 0.625 and 0.5
    assert methods.test_mean["prunepeft"] == 0.5625
    assert list(methods.missing) == [0, 1]
    assert (methods.search_jobs["random-search"], methods.search_evaluations["random-search"]) == (2, 2)
    assert methods.total_examples["random-search"] == 3 * 800
    assert (methods.difference_n["random-search"], methods.difference_mean["random-search"]) == (1, 0.25 - 0.75)
    assert methods.difference_mean.isna()["prunepeft"]
    frame = compare_study(RunFolder.open(store.folder.parent)).frame()
    assert frame.set_index("method").missing.to_dict() == methods.missing.to_dict()
    (overall,) = results["overall"].to_dict("records")
    assert [overall[name] for name in ("method", "role", "places", "difference_n", "difference_mean")] == [
        "random-search",
        "method",
        1,
        1,
        -0.5,
    ]
    assert results["overall"][["difference_low", "difference_high", "difference_p"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(results["best_so_far"], best_so_far(charged_jobs(store)), check_dtype=False)
    assert list(results["best_so_far"].value) == [0.25, 0.5]
    charges = results["charges"]
    assert charges.groupby("method").train_examples.sum().to_dict() == {"prunepeft": 5 * 800, "random-search": 3 * 800}
    assert charges[charges.kind == "final"].test.tolist() == [0.75, 0.5, 0.5, 0.25]


def test_a_search_by_itself_has_them_as_a_study_of_one(tmp_path):
    folder = start_run(tmp_path / "run")
    finish(folder)
    results = open_results(folder.path)
    assert not results.is_study
    methods = results["methods"]
    assert methods.to_dict("records")[0]["test_mean"] == 0.75
    assert methods.search_jobs.tolist() == [4]
    assert len(results["charges"]) == 5
    assert results["overall"].empty
    assert results["best_so_far"].empty


@pytest.mark.parametrize("begun", [False, True])
def test_an_unfinished_run_has_frames_with_all_columns(tmp_path, begun):
    folder = start_run(tmp_path / "run")
    if begun:
        add_search(folder)
    results = open_results(folder.path)
    for name, frame in DERIVED.items():
        assert list(results[name].columns) == [column.name for column in frame.columns]
    assert len(results["charges"]) == (4 if begun else 0)
    assert results["methods"].missing.tolist() == [1]


def test_a_study_that_has_not_begun_has_all_its_searches_missing(tmp_path):
    spec = StudySpec(methods=("prunepeft",), tasks=("t",), models=("m",), seeds=(0, 1), budget="1%")
    results = open_results(RunFolder.create(tmp_path / "study", spec).path)
    assert results["methods"][["method", "done", "missing"]].values.tolist() == [["prunepeft", 0, 2]]
    assert results["methods"].test_mean.isna().all()


# --- damage


def damage(file, how):
    data = file.read_bytes()
    changed = {"truncated": data[:-40], "empty": b"", "foreign": b"PAR1 but not quite PAR1"}
    if how in changed:
        file.write_bytes(changed[how])
    else:
        pq.write_table(pa.table({"a": [1]}), file)


@pytest.mark.parametrize("how", ["truncated", "empty", "foreign", "other table"])
@pytest.mark.parametrize("merged", [False, True])
def test_a_damaged_job_is_named_and_left_out_of_every_frame(tmp_path, monkeypatch, how, merged):
    monkeypatch.setattr("prunepeft_ray.results.compaction.MIN_FILES", 1)
    folder = start_run(tmp_path / "run")
    finish(folder)
    results = open_results(folder.path)
    lost = results["jobs"][results["jobs"].kind == "round"].job_id.item()
    file = folder.results / "jobs" / f"{lost}.parquet"
    if merged:
        results.compact()
    damage(file, how)
    results = open_results(folder.path)
    assert lost not in set(results["architectures"].job_id)
    assert len(results["jobs"]) == 4
    assert lost not in set(results["charges"].job_id)
    (found,) = results.damaged
    assert found.file == file
    assert found.reason
    assert "\n" not in found.reason


def test_a_damaged_part_of_another_table_leaves_out_its_rows_alone(study):
    requests = sorted((study.store.folder / "requests").glob("*.parquet"))
    requests[0].write_bytes(b"")
    results = opened(study)
    assert len(results["requests"]) == len(requests) - 1
    assert len(results["jobs"]) == 8
    assert [one.file for one in results.damaged] == [requests[0]]
    # read again, it is told once
    results["charges"], results["methods"]
    assert len(results.damaged) == 1


def test_a_file_of_a_newer_version_is_the_users_error_and_no_damage(study):
    file = next((study.store.folder / "jobs").glob("*.parquet"))
    table = pq.ParquetFile(file).read()
    pq.write_table(table.replace_schema_metadata({"prunepeft_schema_version": "99"}), file)
    results = opened(study)
    with pytest.raises(InputError, match=r"schema version 99; this version of prunepeft-ray reads 2, 3, 4 and 5$"):
        results["methods"]
    assert results.damaged == ()


def test_a_place_without_a_run_is_the_users_error(tmp_path):
    with pytest.raises(InputError, match=r"does not contain a run: there is no spec\.yaml"):
        open_results(tmp_path)


def test_where_nothing_can_be_written_results_are_read_without_merging(study, monkeypatch):
    monkeypatch.setattr("prunepeft_ray.results.compaction.MIN_FILES", 1)
    (study.store.folder / "merged").write_text("in the way")
    results = opened(study)
    results.compact()
    assert len(results["jobs"]) == 8
    assert compare_methods(results).rows
