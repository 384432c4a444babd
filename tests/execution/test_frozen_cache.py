"""The cache of frozen layers' output, as a search uses it: in the user's cache folder, with a limit."""

from dataclasses import replace

import pytest
from execution_toys import make_spec
from tiny import filled

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import ExecutionConfig
from prunepeft_ray.execution import Workbench
from prunepeft_ray.execution.executor import GroupExecutor
from prunepeft_ray.execution.plan import plan_search
from prunepeft_ray.jobs import Work
from prunepeft_ray.results import ResultsStore, RunContext
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import SoloGroup


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """Names of the files in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda: sorted(file.name for file in (tmp_path / "cache" / "prunepeft" / "prefix").glob("*"))


def run(spec, path, lowest=2):
    """Run a job with slots from a layer up; returns its result without costs."""
    backbone, data = load_backbone(spec.model), load_task(spec.task)
    template = plan_search(spec, backbone, data).template
    upper = [pair for pair in filled(backbone.layers, "lora") if pair[0].layer >= lowest]
    job = replace(template, architecture=Architecture(tuple(upper)))
    store = ResultsStore(path / "results")
    context = RunContext("run", "prunepeft", spec.task.name, spec.model, 0, 1000, 100_000, 100, {}, {})
    executor = GroupExecutor(
        Workbench(backbone, data), SoloGroup(), store, context, path / "checkpoints", lambda _: None, spec.execution
    )
    (result,) = executor.run([Work(job, "candidate", "a job")])
    epochs = [(epoch.train_loss, dict(epoch.metrics)) for epoch in result.epochs]
    return job.id, epochs


def test_a_search_has_the_same_result_with_and_without_the_cache(tiny_bert, small_task, tmp_path, cached):
    spec = make_spec(tiny_bert, small_task, "training.frozen_dropout=false")
    off = make_spec(tiny_bert, small_task, "training.frozen_dropout=false", "execution.frozen_cache_gb=0")
    without = run(off, tmp_path / "without")
    assert cached() == []
    assert run(spec, tmp_path / "first") == without
    files = cached()
    assert len(files) == 2
    assert run(spec, tmp_path / "second") == without
    assert cached() == files


def test_nothing_is_cached_unless_dropout_is_off_in_frozen_layers(tiny_bert, small_task, tmp_path, cached):
    run(make_spec(tiny_bert, small_task), tmp_path / "dropout")
    run(make_spec(tiny_bert, small_task, "training.frozen_dropout=false"), tmp_path / "no frozen layers", lowest=0)
    assert cached() == []


def test_the_limit_holds(tiny_bert, small_task, tmp_path, cached):
    spec = make_spec(tiny_bert, small_task, "training.frozen_dropout=false", "execution.frozen_cache_gb=0.000001")
    run(spec, tmp_path / "run")
    assert cached() == []
    assert ExecutionConfig().frozen_cache_gb > 0
