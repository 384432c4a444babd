import importlib.metadata
import json
import os
import subprocess
import sys

import pytest
from pydantic import Field

from prunepeft_ray import methods
from prunepeft_ray.cli import doctor
from prunepeft_ray.cli.main import run
from prunepeft_ray.config import Config
from prunepeft_ray.criteria import CRITERIA
from prunepeft_ray.methods import METHODS, MethodInfo, MethodRegistry
from prunepeft_ray.pruning import PROFILES, SELECTORS
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
    assert "unreachable" in doctor._hub()[2]


class ToyOptions(Config):
    flavour: str = Field(description="what it tastes of")
    spoons: int = Field(2, description="how much of it")


@pytest.fixture
def toy_method(monkeypatch):
    registry = MethodRegistry()
    registry.register("toy", MethodInfo("tastes well", lambda *_: None, ToyOptions, "flavour", ("sweet",), True))
    monkeypatch.setattr(methods, "METHODS", registry)


def test_methods_are_listed_with_what_they_take(capsys, toy_method):
    run(["methods", "--json"])
    toy = next(row for row in json.loads(capsys.readouterr().out) if row.get("method") == "toy")
    assert toy == {
        "method": "toy",
        "description": "tastes well",
        "reference": True,
        "argument": "flavour",
        "arguments": ["sweet"],
        "options": [
            {"option": "flavour", "what": "what it tastes of", "required": True, "default": None},
            {"option": "spoons", "what": "how much of it", "required": False, "default": 2},
        ],
    }


def test_the_table_of_methods_shows_arguments_options_and_references(capsys, toy_method):
    run(["methods"])
    out = capsys.readouterr().out
    for part in ("toy:FLAVOUR", "(reference row)", "flavour: sweet", "spoons"):
        assert part in out
    assert out.index("toy:FLAVOUR") < out.index("variants of the method prunepeft")


def test_an_argument_that_may_be_left_out_stands_in_brackets(capsys, monkeypatch):
    class Optional(Config):
        variant: str = "plain"

    registry = MethodRegistry()
    registry.register("toy", MethodInfo("tastes well", lambda *_: None, Optional, "variant"))
    monkeypatch.setattr(methods, "METHODS", registry)
    run(["methods"])
    assert "toy[:VARIANT]" in capsys.readouterr().out


def test_an_argument_without_a_list_is_explained(capsys, monkeypatch):
    registry = MethodRegistry()
    registry.register("toy", MethodInfo("tastes well", lambda *_: None, ToyOptions, "flavour"))
    monkeypatch.setattr(methods, "METHODS", registry)
    run(["methods"])
    assert "flavour: what it tastes of" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_methods_as_json_are_one_list_of_methods_and_variants(capsys):
    run(["methods", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in rows if "method" in row] == list(METHODS)
    assert [row["value"] for row in rows if "method" not in row] == [*PROFILES, *SELECTORS]


def test_listing_methods_imports_nothing_heavy():
    code = (
        "import sys; from prunepeft_ray.cli.main import run; run(['methods', '--json']); "
        "print(*[name for name in ('torch', 'ray', 'optuna', 'botorch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.system
def test_tables_are_printed_without_importing_torch():
    commands = [["models"], ["tasks"], ["criteria"], ["methods"]]
    if importlib.metadata.version("torch").endswith("+cpu"):
        commands.append(["doctor"])
    code = f"import sys; from prunepeft_ray.cli.main import run; [run(one) for one in {commands}]"
    command = [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"]
    done = subprocess.run(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
