"""A study that takes a minute: a tiny model, a small file, four methods; and what makes up its answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from execution_toys import BUDGET, SETTINGS

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import load_spec
from prunepeft_ray.execution import Event, GroupExecutor, Workbench
from prunepeft_ray.execution.compare import plan_study
from prunepeft_ray.execution.launch import resolve
from prunepeft_ray.execution.study_run import StudyRun, run_here
from prunepeft_ray.execution.study_search import StudySearch
from prunepeft_ray.jobs import TrainResult, Work
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.study import StudySpec, load_study
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import SoloGroup

METHODS = ("prunepeft", {"name": "autopeft", "options": {"surrogate": "gp"}}, "optuna-tpe", "random-search")


def write_study(file: Path, model: str, task: Path, **changes: Any) -> Path:
    """Write the study's YAML; anything else by keyword."""
    recipe = load_spec(None, {"model": model, "task": str(task), "budget": str(BUDGET)}, SETTINGS)
    plain = recipe.model_dump(mode="json", include={"budget", "space", "warmup", "pruning", "training"})
    axes = {"methods": list(METHODS), "tasks": [str(task)], "models": [model], "seeds": [0]}
    file.write_text(yaml.safe_dump(plain | axes | {"limits": {"evaluations": 12}} | changes))
    return file


def study_here(file: Path, path: Path, stop_after: int | None = None) -> RunFolder:
    """Run a study in this process, or a part of it.

    Args:
        file: Its YAML.
        path: Its folder; goes on where it is.
        stop_after: Give up after that many jobs.
    """
    spec = resolve(load_study(file))
    folder = RunFolder(path) if path.exists() else RunFolder.create(path, spec)
    settings, _ = plan_study(spec, lambda event: None)
    store = ResultsStore(folder.results)
    run = StudyRun([StudySearch(setting, store) for setting in settings], lambda search: None)
    run_here(run, executing(spec, folder, stop_after))
    return folder


def executing(
    spec: StudySpec, folder: RunFolder, stop_after: int | None = None
) -> Callable[[StudySearch, Work], TrainResult]:
    """What trains a study's jobs in this process."""
    benches = {
        (model, task.name): Workbench(load_backbone(model), load_task(task))
        for model in spec.models
        for task in spec.tasks
    }
    left = stop_after

    def execute(search: StudySearch, work: Work) -> TrainResult:
        nonlocal left
        if left is not None:
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        executor = GroupExecutor(
            benches[search.cell.model, search.cell.task.name],
            SoloGroup(),
            ResultsStore(folder.results),
            search.setting.context,
            folder.checkpoints,
            _ignore,
            spec.execution,
            keep_weights=False,
        )
        return executor.run([work])[0]

    return execute


def _ignore(_event: Event) -> None:
    pass


def study_answer(path: Path) -> dict[str, Any]:
    """All of a study that must be the same wherever and however it ran."""
    store = ResultsStore(path / "results")
    cell = ["method", "task", "model", "seed"]
    requests, searches, jobs = (store.read(table) for table in ("requests", "searches", "jobs"))
    results = {}
    for job in jobs.job_id:
        result = store.find(job)
        assert result is not None
        epochs = [(epoch.train_loss, dict(epoch.metrics)) for epoch in result.epochs]
        results[job] = (epochs, result.best_epoch, result.metrics, result.test, result.scores, result.status)
    return {
        "proposals": sorted(requests[[*cell, "kind", "label", "job_id"]].itertuples(index=False, name=None)),
        "choices": sorted(
            searches[[*cell, "status", "architecture", "evaluations"]].itertuples(index=False, name=None)
        ),
        "results": results,
    }
