"""Outputs of any encoding, closed, full, and with numbers that are not finite: none of them fails a command."""

import io
import json
import math
import os
import subprocess
import sys

import pytest
from report_fakes import add_job, finish, start_run

from prunepeft_ray.cli.main import run
from prunepeft_ray.cli.streams import prepare_streams, run_is_over
from prunepeft_ray.cli.terminal import put_json

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture
def folder(tmp_path):
    """A finished run with numbers that are not finite, and names that are not ASCII."""
    folder = start_run(tmp_path / "Läufe", task="训练–é.csv")
    finish(folder)
    strange = {"accuracy": math.nan, "loss": math.inf}
    add_job(folder, "round", 8, 100, 1.0, start=200.0, metrics=strange)
    add_job(folder, "final", 9, 100, 1.0, start=300.0, metrics=strange, test=strange)
    return folder.path


def in_ascii(monkeypatch, function, *args):
    """Call something while standard streams know ASCII alone; what it returns, and what it has printed."""
    with monkeypatch.context() as patch:
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict"))
        prepare_streams()
        returned = function(*args)
        sys.stdout.flush()
        return returned, sys.stdout.buffer.getvalue().decode("ascii")


@pytest.mark.parametrize("command", ["models", "tasks", "criteria", "methods", "cluster status"])
def test_lists_are_printed_in_ascii(monkeypatch, command):
    code, printed = in_ascii(monkeypatch, run, command.split())
    assert code == 0
    assert printed


@pytest.mark.parametrize("options", [[], ["--json"], ["--output", "drawing.svg"], ["--output", "page.html"]])
def test_a_finished_run_is_reported_in_ascii_whatever_its_numbers(monkeypatch, folder, options):
    monkeypatch.chdir(folder)
    code, printed = in_ascii(monkeypatch, run, ["report", str(folder), *options])
    assert code == 0
    assert ("null" if options == ["--json"] else "nan") in printed
    if options[1:]:
        assert (folder / options[1]).read_text(encoding="utf-8")


def test_json_has_null_for_what_is_not_finite(folder, capsys):
    assert run(["report", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["test"] == {"accuracy": None, "loss": None}
    assert found["task"] == "训练–é.csv"


def test_json_in_one_line_is_ascii_only_where_the_output_is(monkeypatch, capsys):
    _, printed = in_ascii(monkeypatch, put_json, {"a": "é", "b": [math.nan, (1, -math.inf)]}, None)
    assert printed == '{"a": "\\u00e9", "b": [null, [1, null]]}\n'
    put_json("é", None)
    assert capsys.readouterr().out == '"é"\n'


@pytest.mark.system
@pytest.mark.parametrize("command", [["report"], ["report", "--json"]], ids=" ".join)
@pytest.mark.parametrize(("output", "code"), [("ascii", 0), ("closed", 0), ("full", 1)])
def test_a_real_process_needs_no_locale_and_no_output(folder, command, output, code):
    where = {"ascii": "", "closed": " >&-", "full": " >/dev/full"}[output]
    done = subprocess.run(
        ["sh", "-c", f'"$@"{where}', "sh", sys.executable, "-m", "prunepeft_ray", *command, str(folder)],
        env=os.environ | ASCII,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.count(b"\n") == (command == ["report"] or code)
    assert b"Traceback" not in done.stderr
    if output == "ascii" and command == ["report"]:
        assert (folder / "report.html").read_text(encoding="utf-8").count("训练–é.csv") > 1


class Failing(io.StringIO):
    """An output that can only be printed to, or not even that."""

    def __init__(self, error, at):
        super().__init__()
        self.fail = {"write": at == "write", "flush": at == "flush"}
        self.error = error

    def write(self, text):
        if self.fail["write"]:
            raise self.error
        return super().write(text)

    def flush(self):
        if self.fail["flush"]:
            raise self.error


@pytest.mark.parametrize("at", ["write", "flush"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("I/O operation on closed file.")])
def test_a_run_that_is_over_stays_so_when_it_cannot_be_printed(monkeypatch, capsys, error, at):
    monkeypatch.setattr(sys, "stdout", Failing(error, at))
    with run_is_over("runs/mine"):
        print("what was found")
    print("more")
    assert "view them with 'prunepeft report runs/mine'" in capsys.readouterr().err


def test_a_reader_that_has_gone_is_no_failure_of_the_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Failing(BrokenPipeError(), "write"))
    with pytest.raises(BrokenPipeError), run_is_over("runs/mine"):
        print("what was found")
