import io
import re
from dataclasses import replace

import pandas as pd
import pytest
from comparison_fakes import COST, StudyFake
from rich.console import Console

from prunepeft_ray.analysis import compare_methods
from prunepeft_ray.errors import RunError
from prunepeft_ray.report import comparison_markdown, comparison_tables, write_csv

TREC = "packaged:trec"


@pytest.fixture
def study(tmp_path):
    return StudyFake(tmp_path)


def add_whole_study(study):
    for seed in (0, 1):
        study.search("prunepeft", seed, [0.5 + seed / 10] * 2, parameters=900 + seed, proposal_seconds=12.0)
        study.search("single:weight", seed, [0.6 + seed / 5] * 2, [0.9] * 2)
        study.search("single:zeros", seed, [0.8] * 2, [0.7] * 2, rounds=2)
    study.search("full", 0, [0.95] * 2, parameters=100_000, reference=True)
    study.candidate("optuna-tpe", 0, 0.5)


def printed(study, width=1000, **more):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for table in comparison_tables(compare_methods(study.store, **more)):
        console.print(table)
    return console.file.getvalue()


def printed_rows(text):
    bars = str.maketrans("┃", "│")
    return [[cell.strip() for cell in line.translate(bars).split("│")[1:-1]] for line in text.splitlines()]


def markdown(study):
    return comparison_markdown(
        compare_methods(study.store),
        "prunepeft compare study.yaml",
        {"python": "3.11", "torch": "2.13"},
        {"cores": "2"},
    )


def test_redone_examples_have_a_column_where_there_are_any(study):
    study.search("prunepeft", 0, [0.5])
    assert "redone examples" not in printed(study)
    assert "| redone examples |" not in markdown(study)
    study.ask("uniform-lora", 0, study.job(cost=replace(COST, redone_examples=1234)))
    study.end("uniform-lora", 0)
    heading, *body = [row for row in printed_rows(printed(study)) if len(row) == 8]
    assert heading[-1] == "redone examples"
    assert {row[0]: row[-1] for row in body} == {"prunepeft": "0", "uniform-lora": "1,234"}
    headings = [row for row in markdown_rows(markdown(study)) if "redone examples" in row]
    assert len(headings) == 1  # of searches; no retraining was redone


def markdown_rows(text):
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("width", [160, 80, 40])
def test_a_narrow_console_loses_nothing(study, width):
    add_whole_study(study)
    text = printed(study, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    assert "singleweight" in "".join(cells[0] for cells in printed_rows(text) if cells).replace(":", "")


def test_the_terminal_tells_what_was_found_and_what_it_cost(study):
    add_whole_study(study)
    text = printed(study)
    told = printed_rows(text)
    for row in (
        # t(0.975, 1) = 12.7062: 0.55 -+ 12.7062 * 0.0707107 / sqrt(2) = 0.55 -+ 0.63531
        ["prunepeft", "0.5500 ± 0.0707 (2)", "0.6000", "900 to 901 (0.90 %)", "–", ""],
        ["", "-0.0853 to 1.1853", "", "", "", ""],
        # differences 0.3 and 0.2; one degree of freedom: t = 5, p = 1 - 2 atan(5) / pi
        ["single:zeros", "0.8000 ± 0.0000 (2)", "0.7000", "900 (0.90 %)", "+0.2500", "front"],
        ["", "", "", "", "-0.3853 to +0.8853", ""],
        # of two methods this is the smaller p; the other is 1 - 2 atan(3) / pi
        ["", "", "", "", "p 0.126 (Holm 0.251)", ""],
        ["optuna-tpe", "–", "–", "–", "–", "2 searches missing"],
        [
            "full",
            "0.9500 (1)",
            "1.0000",
            "100,000 (100.00 %)",
            "+0.4500",
            "reference, over budget, front, 1 search missing",
        ],
        ["prunepeft", "0", "2.00", "4.00e+09", "6 s", "12 s", "2.00 epochs, 6 s"],
        ["optuna-tpe (so far)", "1", "2.00", "4.00e+09", "6 s", "0.0 s", "–"],
        ["best single (oracle)", "0", "6.00", "1.20e+10", "18 s", "1.0 s", "2.00 epochs, 6 s"],
        ["single:zeros", "method", "1", "1", "2", "+0.2500", "–", "–", "–"],
    ):
        assert row in told
    assert "packaged:movie on packaged:minilm: accuracy" in text
    assert "Budget: 1,000 parameters (1.00 % of the backbone)" in text


def test_what_only_an_oracle_knows_is_called_so_everywhere(study):
    add_whole_study(study)
    for rows in (printed_rows(printed(study)), markdown_rows(markdown(study))):
        cells = {(row[0], cell) for row in rows if row for cell in row[1:]}
        assert ("best single (oracle)", "oracle: single:zeros") in cells
        assert ("best single (dev)", "chosen on dev: single:weight") in cells
        assert ("best single (oracle)", "oracle") in cells
        assert not {name for name, cell in cells if "oracle" in cell} - {"best single (oracle)"}


def test_few_seeds_and_few_tasks_are_said_with_how_far_intervals_reach(study):
    add_whole_study(study)
    # prunepeft at 0.5 and 0.6: single:zeros at 0.8 and 0.8, single:weight at 0.6 and 0.8, both 12.7062 * 0.05
    said = "Only 2 seeds: half of the intervals of differences extend ±0.6353 or more"
    assert said in " ".join(printed(study).split())
    assert said in markdown(study)
    for seed in (0, 1):
        study.search("prunepeft", seed, [0.5], task=TREC)
        study.search("single:zeros", seed, [0.65], task=TREC)
    # 0.25 and 0.15: again 12.7062 * 0.05
    assert "Only 2 tasks: half of the intervals of differences extend ±0.6353 or more" in markdown(study)


def test_enough_seeds_are_not_commented_on(study):
    for seed in range(5):
        study.search("prunepeft", seed, [0.5] * 2)
        study.search("asha", seed, [0.6 + seed / 10] * 2)
    assert "Only" not in markdown(study)


def test_small_p_are_not_printed_as_zero(study):
    for seed in range(4):
        study.search("prunepeft", seed, [0.5] * 2)
        study.search("asha", seed, [0.8 + seed / 1000] * 2)
    assert any("below 0.001" in row for row in markdown_rows(markdown(study)))


def test_what_is_missing_is_counted_in_words(study):
    study.search("prunepeft", 0, [0.5, 0.6])
    study.end("prunepeft", 1)
    study.search("prunepeft", 2, [], status="failed", reason="no architecture")
    failed = study.job("final", status="failed", reason="out of memory")
    study.ask("prunepeft", 0, failed, "final", retrain_seed=2)
    notes = [row[-1] for row in markdown_rows(markdown(study)) if row[0] == "prunepeft"]
    assert "1 search failed, 1 retraining failed, 3 retrainings missing" in notes[0]


def test_a_planned_study_without_results_has_tables_already(study):
    planned = [("m", "t", "prunepeft", 0), ("m", "t", "asha", 0)]
    text = printed(study, planned=planned)
    assert ["asha", "–", "–", "–", "–", "1 search missing"] in printed_rows(text)
    assert ["asha", "–", "–", "–", "–", "–", "–"] in printed_rows(text)
    assert comparison_tables(compare_methods(study.store)) == []


def test_names_are_shown_as_they_are_and_never_taken_for_markup(study):
    study.search("[red]a|b*", 0, [0.5])
    assert ["[red]a|b*", "0.5000 (1)", "0.5500", "900 (0.90 %)", "–", "front"] in printed_rows(printed(study))
    assert "| \\[red]a\\|b\\* | 0.5000 (1) |" in markdown(study)


def test_the_document_says_how_it_came_about(study):
    add_whole_study(study)
    study.search("prunepeft", 0, [0.5], task=TREC)
    text = markdown(study)
    assert text.startswith("# ")
    assert "```\nprunepeft compare study.yaml\n```" in text
    assert "Versions: python 3.11, torch 2.13.\n\nHardware: cores 2." in text
    assert "## packaged:movie on packaged:minilm" in text
    assert "## packaged:trec on packaged:minilm" in text
    assert "## How to read this" in text
    # 10 rounds, 1 candidate and 15 retrainings, of 6 seconds each
    assert "In total, 26 jobs ran: 20,800 examples, 1.04e+11 FLOP, 3 min." in text


def test_every_table_of_the_document_is_well_formed(study):
    add_whole_study(study)
    blocks = [block for block in markdown(study).split("\n\n") if block.startswith("|")]
    assert len(blocks) == 4
    for block in blocks:
        rows = markdown_rows(block)
        assert len({len(row) for row in rows}) == 1
        assert set(rows[1]) == {"---"}
        assert len(rows) > 2


def test_csv_files_have_every_number(study, tmp_path):
    add_whole_study(study)
    files = write_csv(compare_methods(study.store), tmp_path / "new" / "tables")
    assert [file.name for file in files] == ["methods.csv", "overall.csv"]
    methods = pd.read_csv(files[0]).set_index("method")
    assert methods.loc["single:zeros", "search_device_seconds"] == 2 * COST.device_seconds
    assert methods.loc["prunepeft", "test_mean"] == pytest.approx(0.55)
    assert methods.loc["prunepeft", "parameters_max"] == 901
    assert pd.isna(methods.loc["optuna-tpe", "test_mean"])
    overall = pd.read_csv(files[1]).set_index("method")
    assert overall.loc["single:zeros", "difference_mean"] == pytest.approx(0.25)


def test_csv_files_are_written_anew_and_only_if_there_is_something(study, tmp_path):
    assert write_csv(compare_methods(study.store), tmp_path) == ()
    study.search("asha", 0, [0.5])
    for tests in ([0.5], [0.7]):
        study.retrain("asha", 0, tests)
        (file,) = write_csv(compare_methods(study.store), tmp_path)
    assert pd.read_csv(file).test_mean[0] == pytest.approx((0.5 + 0.5 + 0.7) / 3)


def test_a_folder_that_cannot_be_written_is_told_in_one_line(study, tmp_path):
    study.search("asha", 0, [0.5])
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match="taken"):
        write_csv(compare_methods(study.store), tmp_path / "taken")
