"""A study that takes a minute: a tiny model, a small file, four methods; and what makes up its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import studies
import yaml
from execution_toys import BUDGET, SETTINGS

from prunepeft_ray.config import load_spec
from prunepeft_ray.results import ResultsStore
from prunepeft_ray.study import load_study

METHODS = ("prunepeft", {"name": "autopeft", "options": {"surrogate": "gp"}}, "optuna-tpe", "random-search")


def write_study(file: Path, model: str, task: Path, **changes: Any) -> Path:
    """Write the study's YAML; anything else by keyword."""
    recipe = load_spec(None, {"model": model, "task": str(task), "budget": str(BUDGET)}, SETTINGS)
    plain = recipe.model_dump(mode="json", include={"budget", "space", "warmup", "pruning", "training"})
    axes = {"methods": list(METHODS), "tasks": [str(task)], "models": [model], "seeds": [0]}
    file.write_text(yaml.safe_dump(plain | axes | {"limits": {"evaluations": 12}} | changes))
    return file


def study_here(file: Path, path: Path) -> Path:
    """Run a study in this process, or what is left of it; returns its folder."""
    return studies.study_here(load_study(file), path)[0].path


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


def assert_same_study(one: Path, other: dict[str, Any]) -> None:
    """Compare a study's folder with an answer part by part, for a readable failure."""
    found = study_answer(one)
    results, expected = found["results"], other["results"]
    failed = {job: result for job, result in results.items() if result[-1] == "failed"}
    differ = {job: (results[job], expected[job]) for job in results.keys() & expected if results[job] != expected[job]}
    assert differ == {}
    for part in ("proposals", "choices"):
        assert sorted(set(found[part]) ^ set(other[part])) == [], f"{part}, {failed}"
    assert found == other
