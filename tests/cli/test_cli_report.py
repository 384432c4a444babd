"""``prunepeft report``: what is written where, several runs, watching, wrong input."""

import json
import time

import pyarrow.parquet as pq
import pytest
from comparison_fakes import StudyFake
from pages import make_study
from report_fakes import finish, start_run

from prunepeft_ray.cli.main import run


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def complaint(capsys, arguments, code=2):
    assert run(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_a_study_is_shown_and_its_page_lies_in_its_folder(capsys, tmp_path):
    make_study(tmp_path / "run")
    assert run(["report", "run"]) == 0
    said = capsys.readouterr()
    assert "prunepeft" in said.out
    assert "wrote run/report.html, and its tables to run/report" in said.err
    assert (tmp_path / "run" / "report.html").is_file()
    assert list((tmp_path / "run" / "report").glob("overview-*.tex"))


def test_a_search_is_shown_and_its_page_lies_in_its_folder(capsys, tmp_path):
    finish(start_run(tmp_path / "run"))
    assert run(["report", "run", "--output", "out/found.html"]) == 0
    assert "LoRA" in capsys.readouterr().out
    assert (tmp_path / "out" / "found.html").is_file()
    assert not (tmp_path / "run" / "report.html").exists()


def test_an_unfinished_run_has_a_page_that_says_so(capsys, tmp_path):
    make_study(tmp_path / "run", whole=False)
    assert run(["report", "run"]) == 0
    assert "Not finished: 1 of 12 searches" in capsys.readouterr().err
    assert "Not finished: 1 of 12 searches" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_several_runs_are_compared_in_one_page(capsys, tmp_path):
    make_study(tmp_path / "one")
    finish(start_run(tmp_path / "two"))
    assert run(["report", "one", "two"]) == 0
    assert "Runs compared" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_json_alone_writes_nothing(capsys, tmp_path):
    make_study(tmp_path / "run")
    assert run(["report", "run", "--json"]) == 0
    assert "rows" in json.loads(capsys.readouterr().out)
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_watched_study_is_reported_until_it_ends(capsys, monkeypatch, tmp_path):
    make_study(tmp_path / "run", whole=False)
    pages = []

    def end_of_study(seconds):
        pages.append(("http-equiv" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8"), seconds))
        study = StudyFake(tmp_path / "run")
        study._jobs = 1000
        study.search("uniform-lora", 1, [0.5, 0.5], task="packaged:trec", rounds=0)

    monkeypatch.setattr(time, "sleep", end_of_study)
    assert run(["report", "run", "--watch", "--every", "7"]) == 0
    assert pages == [(True, 7)]
    assert capsys.readouterr().err.count("wrote ") == 2
    assert "http-equiv" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--output", "found.pdf"], "expected a file name ending in .html or .md"),
        (["run", "--output", "found.svg"], "expected a file name ending in .html or .md"),
        (["run", "other", "--output", "found.md"], "expected a file name ending in .html"),
        (["run", "run"], "run is named twice"),
        (["run", "nowhere"], "nowhere does not contain a run"),
        (["run", "--watch", "--json"], "--watch writes a page"),
        (["run", "--watch", "--output", "found.md"], "--watch writes a page"),
        (["run", "--watch", "--every", "0"], "--every"),
    ],
)
def test_wrong_input_is_one_clear_line(capsys, tmp_path, arguments, said):
    make_study(tmp_path / "run")
    finish(start_run(tmp_path / "other"))
    assert said in complaint(capsys, ["report", *arguments])


def test_a_page_that_cannot_be_written_fails_with_exit_code_1(capsys, tmp_path):
    make_study(tmp_path / "run")
    (tmp_path / "file").write_text("in the way")
    assert run(["report", "run", "--output", "file/found.html"]) == 1
    assert "choose another place with --output" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["study", "search"])
@pytest.mark.parametrize("options", [[], ["--json"], ["--output", "found.html"]])
def test_a_damaged_part_is_named_and_left_out(capsys, tmp_path, kind, options):
    if kind == "study":
        make_study(tmp_path / "run")
    else:
        finish(start_run(tmp_path / "run"))
    file = sorted((tmp_path / "run" / "results" / "jobs").iterdir())[-1]
    file.write_bytes(b"PAR1")
    assert run(["report", "run", *options]) == 0
    sentence = f"Damaged and left out: run/results/jobs/{file.name} ("
    assert sentence in capsys.readouterr().err
    pages = [*tmp_path.glob("*.html"), *(tmp_path / "run").glob("*.html")]
    assert len(pages) == ("--json" not in options)
    assert all(sentence in page.read_text(encoding="utf-8") for page in pages)


def test_a_newer_version_of_the_store_is_refused_in_one_line(capsys, tmp_path):
    finish(start_run(tmp_path / "run"))
    file = next((tmp_path / "run" / "results" / "jobs").glob("*.parquet"))
    table = pq.ParquetFile(file).read()
    pq.write_table(table.replace_schema_metadata({"prunepeft_schema_version": "99"}), file)
    assert "schema version 99; this version" in complaint(capsys, ["report", "run"])


def test_many_parts_are_merged_for_the_next_time(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("prunepeft_ray.results.compaction.MIN_FILES", 3)
    finish(start_run(tmp_path / "run"))
    assert run(["report", "run", "--json"]) == 0
    assert len(list((tmp_path / "run" / "results" / "merged" / "jobs").iterdir())) == 1
