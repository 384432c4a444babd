import json

import pytest

from prunepeft_ray.cli import doctor
from prunepeft_ray.cli.main import run
from prunepeft_ray.criteria import CRITERIA
from prunepeft_ray.tasks import TASKS


@pytest.mark.parametrize("command", ["models", "tasks", "criteria", "methods", "doctor"])
def test_lists_print_a_table(capsys, command):
    assert run([command]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 4


def test_lists_are_complete_as_json(capsys):
    run(["criteria", "--json"])
    assert [row["criterion"] for row in json.loads(capsys.readouterr().out)] == list(CRITERIA)
    run(["tasks", "--json"])
    assert [row["task"] for row in json.loads(capsys.readouterr().out)] == list(TASKS)


def test_models_say_whether_they_are_installed(capsys):
    run(["models", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert {row["model"]: row["installed"] for row in rows} == {"packaged:minilm": "0.1.0", "packaged:smollm2": "0.1.2"}


def test_no_arguments_print_help(capsys):
    assert run([]) == 0
    assert "search" in capsys.readouterr().out


def test_doctor_fails_when_a_needed_package_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    assert run(["doctor", "--json"]) == 1
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["no-such-package"]["state"] == "missing"
    assert "pip install" in rows["no-such-package"]["detail"]


def test_doctor_asks_the_hub_unless_offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in doctor._hub()[2]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "not reachable" in doctor._hub()[2]
