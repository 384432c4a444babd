"""``prunepeft simulate``: wrong input, and what is printed."""

import json

import pytest
import yaml
from studies import SMALL

from prunepeft_ray.cli.main import run
from prunepeft_ray.execution.simulation import estimate
from prunepeft_ray.execution.simulation.costs import Costs

COSTS = Costs((1.0, 0.5, 0.0, 0.0, 0.0, 0.0), 7, 0.125, "runs/measured")


@pytest.fixture
def study(tiny_bert, small_task, tmp_path, monkeypatch):
    """Writes a study of a method without choices; parts may be given otherwise."""
    monkeypatch.chdir(tmp_path)

    def make(**changes):
        values = SMALL | {"methods": ["uniform-lora"], "tasks": [str(small_task)], "models": [tiny_bert]} | changes
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
        return "study.yaml"

    return make


@pytest.fixture
def _measured(monkeypatch):
    """Known costs: a second per job and half a second per step."""
    monkeypatch.setattr(estimate, "short_jobs", lambda *arguments: [])
    monkeypatch.setattr(estimate, "fit_costs", lambda measured, source: COSTS)


def complaint(capsys, arguments):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == ""
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--devices", "0"], "--devices"),
        (["--devices", "some"], "--devices"),
        (["--costs", "nowhere"], "nowhere does not contain a run"),
    ],
)
def test_wrong_input_is_one_line(capsys, study, arguments, says):
    assert says in complaint(capsys, ["simulate", study(), *arguments])


def test_too_few_devices_are_one_line_before_anything_is_measured(capsys, study):
    found = complaint(capsys, ["simulate", study(execution={"workers": 4}), "--devices", "8", "--devices", "2"])
    assert "2 devices: a job of this study needs 4 (execution.workers)" in found


@pytest.mark.usefixtures("_measured")
def test_the_estimate_for_each_number_of_devices(capsys, study):
    # a retraining of one epoch for each of two seeds of searches, which have one architecture, so two jobs; 70
    # examples are five batches of 16
    assert run(["simulate", study(seeds=[0, 1]), "--devices", "2", "--devices", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "study.yaml: 2 searches, 2 jobs" in lines[0]
    one, two = (line for line in lines if line.startswith(("│ 1 ", "│ 2 ")))
    assert one.split()[3:5] == ["7", "s"]
    assert two.split()[3:5] == ["4", "s"]
    assert any("uniform-lora" in line and "100%" in line for line in lines)
    text = " ".join(lines)
    assert "Durations: runs/measured, 7 jobs; half of them are predicted within 12%." in text
    assert "Metrics are made up" in text


@pytest.mark.usefixtures("_measured")
def test_as_json_nothing_else_is_on_standard_output(capsys, study):
    assert run(["simulate", study(), "--devices", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["durations"]["measured_jobs"] == 7
    (only,) = found["runs"]
    assert only["devices"] == 1
    assert only["jobs"] == 1
    assert only["device_seconds"] == 3.5


@pytest.mark.usefixtures("_measured")
def test_a_search_that_fails_is_named(capsys, study):
    assert run(["simulate", study(methods=["prunepeft"], limits={"epochs": 0.1}), "--devices", "1"]) == 0
    assert "seed 0 fails: a limit of the study ended the search" in capsys.readouterr().out
