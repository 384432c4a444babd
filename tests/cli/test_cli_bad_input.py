"""Wrong input ends with exit code 2 and one line on standard error that says what would be right."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from prunepeft_ray.cli.main import run
from prunepeft_ray.cli.search import default_output

GOOD = ["search", "--model", "packaged:minilm", "--task", "packaged:movie", "--budget", "1.3%"]


def changed(**options: str) -> list[str]:
    arguments = list(GOOD)
    for name, value in options.items():
        arguments[arguments.index(f"--{name}") + 1] = value
    return arguments


def with_setting(setting: str) -> list[str]:
    return [*GOOD, "--set", setting]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def complaint(capsys, arguments: list[str], code: int = 2) -> str:
    assert run(arguments) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serch"], "Did you mean 'search'"),
        (["search", "--modle", "x"], "--model"),
        ([*GOOD, "--workers", "0"], "--workers '0': expected auto, or a number from 1"),
        ([*GOOD, "--workers", "two"], "--workers 'two': expected auto, or a number from 1"),
        (["compare", "study.yaml", "--workers", "2", "--address", "auto"], "--workers is for this machine"),
        ([*GOOD, "--seed", "x"], "--seed"),
        (["search"], "'model' is missing"),
        (["search", "--model", "packaged:minilm"], "'task' is missing"),
        (["search", "--config", "nope.yaml"], "nope.yaml: cannot be read"),
        (changed(model="packaged:minlm"), "did you mean 'packaged:minilm'"),
        (changed(model="./nope"), "no such folder"),
        (changed(task="packaged:movies"), "did you mean 'packaged:movie'"),
        (changed(task="ss2"), "did you mean 'sst2'"),
        (changed(task="nope.csv"), "nope.csv"),
        (changed(budget="0"), "above 0"),
        (changed(budget="0%"), "above 0"),
        (changed(budget="-1%"), "above 0"),
        (changed(budget="much"), "expected a number"),
        (changed(budget="50%"), "supernet has only 887,808"),
        (changed(budget="1000"), "smallest slot has 49,152"),
        (with_setting("training.epoch=3"), "did you mean 'training.epochs'"),
        (with_setting("training.epochs=0"), "training.epochs"),
        (with_setting("training.epochs"), "expected key=value"),
        (with_setting("space.kinds=[XA]"), "space.kinds"),
        (with_setting("space.rank=[8,8]"), "6 layers"),
        (with_setting("pruning.criteria=[weigth]"), "did you mean 'weight'"),
        (with_setting("pruning.blocks=[0.5,0.4]"), "edges must increase"),
        (with_setting("task.metric=acuracy"), "did you mean 'accuracy'"),
        (with_setting("task.metric=pearson"), "does not suit"),
        (with_setting("task.train_size=100000"), "task.train_size"),
        (with_setting("task.label=x"), "label"),
        ([*GOOD, "--pool", "pool", "--no-pool"], "--pool and --no-pool exclude each other"),
        ([*GOOD, "--pool", "/dev/null"], "--pool /dev/null cannot be used"),
        ([*GOOD, "--pool", "s4://bucket/pool"], "unknown scheme 's4'"),
        (["resume", "nowhere"], "does not contain a run"),
        (["report", "nowhere"], "does not contain a run"),
        (["evaluate", "nowhere"], "contains no adapter"),
        (["evaluate", "nowhere", "--split", "tests"], "expected train, dev or test"),
        (["evaluate", "nowhere", "--task", "sst2", "--data", "x.csv"], "not both"),
        (["predict", "nowhere"], "--input 'TEXT'"),
        (["predict", "nowhere", "--input", " "], "--input: the text is empty"),
        (["predict", "nowhere", "--input", "a", "--input", "b", "--input2", "c"], "2 --input but 1 --input2"),
        (
            ["predict", "nowhere", "--input", "a", "--data", "x.csv"],
            "--input 'TEXT' (repeatable, - for standard input) or",
        ),
        (["predict", "nowhere", "--text", "a"], "--text and --text2 name columns of --data FILE"),
        (["predict", "nowhere", "--data", "x.csv", "--text-column", "a"], "--text-column is now called --text"),
        (["predict", "nowhere", "--data", "x.csv", "--text2-column", "a"], "--text2-column is now called --text2"),
        (["evaluate", "nowhere", "--data", "x.csv", "--label-column", "a"], "--label-column is now called --label"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value[-2:]),
)
def test_wrong_input_is_one_line_and_leaves_nothing(capsys, tmp_path, arguments, says):
    assert says in complaint(capsys, arguments)
    assert list(tmp_path.iterdir()) == []


def write_csv(path, rows):
    path.write_text("\n".join(["review,stars", *rows]) + "\n", encoding="utf-8")
    return ["search", "--model", "packaged:minilm", "--task", str(path), "--budget", "1.3%"]


ROWS = [f"film number {i} was {'good' if i % 2 else 'bad'},{'pos' if i % 2 else 'neg'}" for i in range(40)]


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (ROWS, ["--text", "reviw", "--label", "stars"], "review"),
        (ROWS, ["--text", "review", "--label", "star"], "stars"),
        (ROWS, ["--text", "review", "--label", "review"], "review"),
        ([*ROWS, "no label,"], ["--text", "review", "--label", "stars"], "42"),
        ([*ROWS, ",pos"], ["--text", "review", "--label", "stars"], "42"),
        ([f"film {i},pos" for i in range(40)], ["--text", "review", "--label", "stars"], "at least two classes"),
        (ROWS[:1], ["--text", "review", "--label", "stars"], "1"),
        ([], ["--text", "review", "--label", "stars"], "film.csv"),
    ],
    ids=["text column", "label column", "same column", "no label", "empty text", "one class", "one row", "no row"],
)
def test_a_bad_file_is_named_with_what_is_wrong(capsys, tmp_path, rows, options, says):
    message = complaint(capsys, [*write_csv(tmp_path / "film.csv", rows), *options])
    assert "film.csv" in message
    assert says in message


def test_a_file_in_another_encoding_than_named_is_refused(capsys, tmp_path):
    (tmp_path / "film.csv").write_bytes("review,stars\ncafé,pos\n".encode("latin-1"))
    arguments = [*changed(task=str(tmp_path / "film.csv")), "--text", "review", "--label", "stars"]
    assert "film.csv, line 2: not valid utf-8" in complaint(capsys, [*arguments, "--encoding", "utf-8"])
    assert "separator 'semi': expected one character" in complaint(capsys, [*arguments, "--separator", "semi"])


def test_an_unsupported_family_names_the_supported_ones(capsys, tmp_path):
    from transformers import DistilBertConfig, DistilBertModel

    DistilBertModel(DistilBertConfig(vocab_size=30, dim=8, n_heads=2, n_layers=4, hidden_dim=8)).save_pretrained(
        tmp_path / "distil"
    )
    message = complaint(capsys, changed(model=str(tmp_path / "distil")))
    assert all(text in message for text in ("distilbert", "BERT", "RoBERTa", "Llama", "docs/extending.md"))


def test_a_folder_of_another_run_is_left_alone(capsys, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.yaml").write_text("model: x\n")
    assert "prunepeft resume" in complaint(capsys, [*GOOD, "--output", str(tmp_path / "run")])
    assert (tmp_path / "run" / "spec.yaml").read_text() == "model: x\n"


def test_a_folder_with_something_else_is_left_alone(capsys, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    assert "not empty" in complaint(capsys, [*GOOD, "--output", str(tmp_path / "photos")])


def test_a_file_in_the_place_of_the_folder_is_left_alone(capsys, tmp_path):
    (tmp_path / "notes").write_text("mine")
    assert "choose a folder" in complaint(capsys, [*GOOD, "--output", str(tmp_path / "notes")])
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_full_disk_fails_with_exit_code_1(capsys, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr("prunepeft_ray.execution.search.start._cluster_with_workers", lambda *_args: nullcontext())
    message = complaint(capsys, [*GOOD, "--output", str(tmp_path / "run")], code=1)
    assert "No space left on device" in message


def test_a_hub_that_cannot_be_reached_fails_with_exit_code_1(capsys):
    assert "cannot be reached" in complaint(capsys, changed(model="somebody/some-model"), code=1)


def test_settings_override_the_file(capsys, tmp_path):
    (tmp_path / "search.yaml").write_text(yaml.safe_dump({"model": "packaged:minilm", "task": "cola", "budget": "1%"}))
    arguments = ["search", "--config", str(tmp_path / "search.yaml"), "--task", "packaged:moviee"]
    assert "packaged:moviee" in complaint(capsys, arguments)


@pytest.mark.system
def test_the_command_itself_exits_with_code_2_and_no_traceback():
    done = subprocess.run(
        [sys.executable, "-c", "from prunepeft_ray.cli.main import main; main()", *GOOD[:-1], "lots"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_runs_of_models_and_tasks_of_any_name_get_folders_of_their_own():
    assert default_output("packaged:minilm", "packaged:trec", "1.3%", 0) == Path("runs/minilm-trec-1.3pct-seed0")
    tasks = ["a_b.csv", "a-b.csv", "a b.csv", "训练.csv", "测试.csv", "x" * 5000, "x" * 4999]
    found = {default_output("m" * 5000, task, "1%", 0).name for task in tasks}
    assert len(found) == len(tasks)
    assert max(map(len, found)) < 200
