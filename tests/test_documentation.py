"""The code and the settings that the documentation shows."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from prunepeft_ray import CRITERIA, METHODS, TASKS, RunFolder, TrainResult
from prunepeft_ray.cli import adapter
from prunepeft_ray.config import all_keys, validate
from prunepeft_ray.execution.study.plan import plan_study
from prunepeft_ray.plugins import load_plugins
from prunepeft_ray.study import MethodConfig, StudySpec, TaskConfig, load_study

ROOT = Path(__file__).parent.parent


def blocks(page, language, containing):
    """The code blocks of a page that contain some text."""
    found = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.M | re.S)
    return [block for block in found if containing in block]


@pytest.fixture
def registries(monkeypatch):
    """Registries that forget after the test what plugins brought."""
    len(METHODS)  # what is installed is found first
    for registry in (CRITERIA, METHODS, TASKS):
        monkeypatch.setattr(registry, "_items", dict(registry._items))
    yield
    for name in ("greedy", "mine"):
        sys.modules.pop(name, None)


@pytest.fixture
def documented(tmp_path, registries):
    """Settings of the searches of the study with plugins, by method."""
    for page in blocks("extending.md", "python", "METHODS.register"):
        (tmp_path / "greedy.py").write_text(page)
    for page in blocks("extending.md", "python", "TASKS.register"):
        (tmp_path / "mine.py").write_text(page)
    (study,) = blocks("extending.md", "yaml", "plugins:")
    (tmp_path / "study.yaml").write_text(study)
    spec = load_study(tmp_path / "study.yaml")
    load_plugins(spec.plugins)
    settings, data = plan_study(spec, lambda event: None)
    assert len(data["all-reviews"].train) == 600
    return {setting.cell.method.name: setting for setting in settings if setting.cell.seed == 0}


def test_the_complete_study_has_every_key_there_is():
    (text,) = blocks("comparing.md", "yaml", "execution:")
    data = yaml.safe_load(text)
    spec = validate(StudySpec, data, "comparing.md")
    assert set(keys(data)) == set(all_keys(StudySpec))
    assert list(data["methods"][0]) == list(MethodConfig.model_fields)
    assert list(data["tasks"][0]) == list(TaskConfig.model_fields)
    needed = {key: data[key] for key in ("methods", "tasks", "models", "budget")}
    assert spec == validate(StudySpec, needed, "comparing.md"), "it shows a default that is none"


def keys(data, prefix=""):
    for name, value in data.items():
        yield from keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]


def test_the_methods_with_settings_of_their_own_are_right():
    (text,) = blocks("comparing.md", "yaml", "autopeft-own")
    for method in yaml.safe_load(text)["methods"]:
        config = validate(MethodConfig, method, "comparing.md")
        METHODS.options(config.name, config.options)


def test_every_method_is_documented():
    page = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    table = page[page.index("## Methods") : page.index("### AutoPEFT")]
    named = {name.split(":")[0] for name in re.findall(r"^\| `([^`]+)` \|", table, re.M)}
    assert set(METHODS) <= named


def test_the_documented_method_grows_within_budget_and_evaluations(documented):
    problem = documented["greedy"].problem
    method, evaluated = documented["greedy"].build(), []
    while not method.done:
        for work in method.ask():
            evaluated.append(work.job.architecture)
            assert problem.fits(work.job.architecture)
            size = len(work.job.architecture)
            method.tell(work.job, TrainResult(1, 1, (), 1, {problem.template.metric: size / 10}))
    assert len(evaluated) <= problem.evaluations
    assert method.best() == max(evaluated, key=len)
    assert [len(architecture) for architecture in evaluated[:4]] == [1, 1, 1, 2]


def test_the_documented_criterion_is_collected(documented):
    (work,) = documented["single:spread"].build().ask()
    assert work.job.collect == ("spread",)


def test_the_documented_task_is_found_again_to_evaluate_a_run_on(documented, tmp_path):
    RunFolder.create(tmp_path / "run", documented["prunepeft"].problem.spec)
    for registry in (CRITERIA, METHODS, TASKS):
        for name in ("spread", "greedy", "all-reviews"):
            registry._items.pop(name, None)
    for name in ("greedy", "mine"):
        del sys.modules[name]
    found = adapter._task_splits(str(tmp_path / "run"), None, "test", ("negative", "positive"), {}, True)
    assert [(suffix, len(split)) for suffix, split in found.items()] == [("", 800)]
