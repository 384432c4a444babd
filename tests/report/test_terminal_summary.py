import io

import pytest
from report_fakes import add_job, add_search, finish, start_run
from rich.console import Console

from prunepeft_ray.analysis import summarise
from prunepeft_ray.jobs import Cost
from prunepeft_ray.report import summary_tables
from prunepeft_ray.report.terminal_summary import criteria_text
from prunepeft_ray.text import duration_text

SIX = ("weight", "zeros", "threshold", "activation", "sensitivity", "gradient")


def printed(folder, width):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in summary_tables(summarise(folder)):
        console.print(part)
    return console.file.getvalue()


def rows(text):
    """Cells of every row of every table."""
    bars = str.maketrans("┃", "│")
    return [[cell.strip() for cell in line.translate(bars).split("│")[1:-1]] for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path):
    return start_run(tmp_path / "run")


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("stage", [lambda folder: None, add_search, finish])
def test_no_stage_of_a_run_overflows_a_console(folder, width, stage):
    stage(folder)
    text = printed(folder, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text


def test_a_finished_run_is_told_from_how_it_came_about_to_what_it_found(folder):
    finish(folder)
    told = rows(printed(folder, 80))
    for row in (
        ["1", "1–3", "zeros, gradient", ""],
        ["0", "0", "weight", "all 6"],
        ["1", "SA.3 (0.500), PA.0 (0.250)"],
        ["2", "SA.2 (0.750), SA.0 (0.125)"],
        ["1", "3", "LoRA 8", "· round 1"],
        ["", "1", "LoRA 8", "adapter 16"],
        ["0", "0", "· round 1", "· round 2"],
        ["", "warm-up", "rounds", "retraining"],
        ["jobs", "3", "1", "1"],
        ["examples", "400", "400", "1,200"],
        ["epochs", "1.00", "1.00", "3.00"],
        ["time", "4 s", "8 s", "30 s"],
        ["FLOP", "4.0e+11", "4.0e+11", "1.2e+12"],
        ["slots kept", "4 of 8 (PA 3, SA 1)"],
        ["parameters", "900 (budget 1,000)"],
        ["of the backbone", "0.90 % (budget 1%)"],
        ["accuracy", "dev 0.8125, test 0.7500"],
        ["f1", "test 0.5000"],
        ["loss", "dev 0.4000"],
        ["search / retraining", "2.00 / 3.00 epochs"],
    ):
        assert row in told
    assert "not finished" not in printed(folder, 80)


def test_criteria_that_abstained_are_named_below_those_that_judge(folder):
    finish(folder)
    # the folder, which is printed too, has this test's name in it
    assert "the same value" not in " ".join(printed(folder, 80).split())
    folder.write_json("strategy.json", folder.read_json("strategy.json") | {"abstained": ["zeros"]})
    assert "zeros abstained: the same value for every slot" in " ".join(printed(folder, 80).split())


def test_redone_examples_have_a_row_where_there_are_any(folder):
    finish(folder)
    assert not [row for row in rows(printed(folder, 80)) if row[:1] == ["redone examples"]]
    add_job(folder, "round", 5, 400, 8.0, cost=Cost(train_examples=400, redone_examples=1234))
    assert ["redone examples", "0", "1,234", "0"] in rows(printed(folder, 80))


def test_the_primary_metric_comes_first_and_the_loss_last(folder):
    finish(folder)
    names = [row[0] for row in rows(printed(folder, 80)) if len(row) == 2]
    assert names.index("accuracy") < names.index("f1") < names.index("loss")


def test_an_unfinished_run_says_what_is_missing_and_how_to_go_on(folder):
    add_search(folder)
    text = " ".join(printed(folder, 1000).split())
    assert "not finished: retraining, the architecture still missing" in text
    assert f"resume with 'prunepeft resume {folder.path}'" in text
    assert "0.50" in text  # the rounds so far are shown


def test_a_run_with_nothing_yet_says_so(folder):
    text = printed(folder, 1000)
    assert "not finished: warm-up, rounds, retraining, the architecture still missing" in text


def test_names_are_printed_as_they_are_and_never_taken_for_markup(tmp_path):
    folder = start_run(tmp_path / "[red]run", model="a[/b]c", task="[bold]t.csv")
    text = printed(folder, 1000)
    assert f"resume {tmp_path}/[red]run'" in text
    assert "a[/b]c" in text
    assert "[bold]t.csv" in text


@pytest.mark.parametrize(
    ("criteria", "known", "text"),
    [
        (SIX, SIX, "all 6"),
        (SIX[::-1], SIX, "all 6"),
        (SIX[1:], SIX, "all but weight"),
        (SIX[2:], SIX, "threshold, activation, sensitivity, gradient"),
        (("weight",), ("weight",), "weight"),
        (("weight", "zeros"), ("weight", "zeros"), "weight, zeros"),
        (("weight", "zeros"), SIX[:3], "weight, zeros"),
        ((), SIX, ""),
    ],
)
def test_many_criteria_are_named_briefly(criteria, known, text):
    assert criteria_text(criteria, known) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (41.4, "41 s"), (99.4, "99 s"), (420, "7 min"), (3600, "60 min"), (11520, "3.2 h")],
)
def test_durations_have_a_unit_that_fits(seconds, text):
    assert duration_text(seconds) == text
