"""The code and the settings that the documentation shows."""

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from tiny import hidden_states
from transformers import ElectraConfig

from prunepeft_ray import CRITERIA, METHODS, TASKS, RunFolder, TrainResult
from prunepeft_ray.architecture import KINDS, Architecture, Module, Slot
from prunepeft_ray.backbones import FAMILIES, load_backbone, load_outline
from prunepeft_ray.cli import adapter
from prunepeft_ray.config import ModulesConfig, SpaceConfig, all_keys, validate
from prunepeft_ray.execution.study.plan import plan_study
from prunepeft_ray.modules import MODULE_TYPES, AdaptedBackbone, build_space, module_cost
from prunepeft_ray.plugins import load_plugins
from prunepeft_ray.pruning import PROFILES, SELECTORS
from prunepeft_ray.study import MethodConfig, StudySpec, TaskConfig, load_study
from prunepeft_ray.tasks import METRICS, compute_metrics

ROOT = Path(__file__).parent.parent
REGISTRIES = (CRITERIA, FAMILIES, METHODS, METRICS, MODULE_TYPES, PROFILES, SELECTORS, TASKS)
ADDED = ("spread", "greedy", "all-reviews", "gelu-adapter", "balanced", "ranked", "one-pass")
PLUGINS = ("mine", "greedy", "gelu_adapter", "balanced", "ranked")


def blocks(page, language, containing):
    """The code blocks of a page that contain some text."""
    found = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.M | re.S)
    return [block for block in found if containing in block]


@pytest.fixture
def registries(monkeypatch):
    """Registries that forget after the test what plugins brought."""
    len(METHODS)  # what is installed is found first
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_items", dict(registry._items))
    yield
    for name in PLUGINS:
        sys.modules.pop(name, None)


@pytest.fixture
def documented(tmp_path, registries):
    """Settings of the searches of the study with plugins, by method."""
    for name in PLUGINS:
        (code,) = blocks("extending.md", "python", f"# {name}.py\n")
        (tmp_path / f"{name}.py").write_text(code)
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


def test_the_documented_selector_and_profile_decide_what_is_pruned(documented):
    method, labels = documented["prunepeft"].build(), []
    while method.final_job is None:
        for work in method.ask():
            labels.append(work.label)
            method.tell(work.job, scored(work.job))
    assert labels == ["warm-up: one pass", *(f"round {n}/3" for n in (1, 2, 3)), "final retraining"][: len(labels)]
    assert method.strategy.select == "one-pass"
    assert method.planned == 5
    decided = [decision for decision in method.decisions if decision.step == "round" and decision.index == 1]
    p = {decision.slot: decision.probability for decision in decided}
    assert sum(p.values()) == pytest.approx(1)
    # every criterion gives the n-th of 12 slots rank n or 13 - n; only ranks, whole numbers over 3 x 78, count
    assert {round(value * 3 * 78, 6) % 1 for value in p.values()} == {0}


def scored(job):
    values = {str(slot): float(n) for n, slot in enumerate(job.architecture.slots)}
    return TrainResult(1, 1, (), 1, {}, scores=dict.fromkeys(job.collect, values))


def test_the_documented_module_type_fills_slots_and_is_collected(documented, tiny_bert):
    architecture = Architecture.of({Slot(1, "SA"): Module("gelu-adapter", 4)})
    assert {module.type for slot, module in documented["prunepeft"].problem.space.supernet if slot.kind == "SA"} == {
        "gelu-adapter"
    }
    backbone = load_backbone(tiny_bert)
    before = hidden_states(backbone)
    with AdaptedBackbone(backbone, architecture, ModulesConfig(), num_outputs=2, seed=0) as adapted:
        assert adapted.parameters == module_cost(backbone, Slot(1, "SA"), "gelu-adapter").parameters(4)
        torch.testing.assert_close(hidden_states(backbone), before)


def test_the_documented_metric_decides(documented):
    assert documented["prunepeft"].problem.template.metric == "balanced"
    # all of class 0, none of class 1
    assert compute_metrics(("balanced",), [0, 0, 0, 0], [0, 0, 0, 1]) == {"balanced": 0.5}


def test_the_documented_family_is_found_by_its_model_type(registries, tmp_path):
    (code,) = blocks("extending.md", "python", "FAMILIES.register")
    exec(code, {})
    config = ElectraConfig(
        vocab_size=40,
        embedding_size=32,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
    )
    config.save_pretrained(tmp_path)
    save_file({}, tmp_path / "model.safetensors")
    space = build_space(SpaceConfig(kinds=KINDS), load_outline(str(tmp_path)))
    assert len(space.supernet) == 4 * len(KINDS)


def test_the_documented_task_is_found_again_to_evaluate_a_run_on(documented, tmp_path):
    RunFolder.create(tmp_path / "run", documented["prunepeft"].problem.spec)
    for registry in REGISTRIES:
        for name in ADDED:
            registry._items.pop(name, None)
    for name in PLUGINS:
        del sys.modules[name]
    found = adapter._task_splits(str(tmp_path / "run"), None, "test", ("negative", "positive"), {}, True)
    assert [(suffix, len(split)) for suffix, split in found.items()] == [("", 800)]
