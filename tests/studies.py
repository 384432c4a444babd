"""Real studies in this process: everything but Ray."""

from __future__ import annotations

from pathlib import Path

from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.events import Event
from prunepeft_ray.execution import GroupExecutor, Workbench
from prunepeft_ray.execution.session import open_pool, resolve
from prunepeft_ray.execution.study.dispatcher import StudyRun, run_here
from prunepeft_ray.execution.study.plan import plan_study
from prunepeft_ray.execution.study.search import StudySearch
from prunepeft_ray.execution.study.start import _requests, forget_order
from prunepeft_ray.jobs import TrainResult, Work
from prunepeft_ray.plugins import load_plugins
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.study import StudySpec
from prunepeft_ray.training import SoloGroup

SMALL = {
    "budget": 1500,
    "space": {"rank": 4, "bottleneck": 4},
    "warmup": {"turns": 1, "epochs": 1, "train_size": 24, "remove": 2},
    "pruning": {"rounds": 2, "criteria": ["weight"]},
    "training": {"epochs": 1, "max_length": 32},
    "limits": {"evaluations": 3},
    "seeds": [0],
}
"""Terms of a study that takes seconds on a tiny model."""


def ignore(_event: Event) -> None:
    """Take no notice."""


def study_here(spec: StudySpec, path: Path, pool: Path | None = None) -> tuple[RunFolder, list[Work]]:
    """Run a new study, or one that has been given more; returns its folder and the jobs that were handed out."""
    load_plugins(spec.plugins)
    spec = resolve(spec)
    settings, data = plan_study(spec, ignore)
    if (path / "spec.yaml").exists():
        folder = RunFolder.open(path)
        folder.extend(spec)
    else:
        folder = RunFolder.create(path, spec)
    store = ResultsStore(folder.results)
    backbones = {model: load_backbone(model) for model in spec.models}
    benches = {(m, t.name): Workbench(backbones[m], data[t.name]) for m in spec.models for t in spec.tasks}
    trained: list[Work] = []
    jobs = open_pool(None if pool is None else str(pool), ignore)

    def execute(search: StudySearch, work: Work) -> TrainResult:
        trained.append(work)
        context = search.setting.context
        bench = benches[work.job.model, context.task]
        executor = GroupExecutor(
            bench,
            SoloGroup(),
            store,
            context,
            folder.checkpoints,
            ignore,
            spec.execution,
            keep_weights=False,
            pool=jobs,
        )
        return executor.run([work])[0]

    told, unordered = _requests(store)
    forget_order(store, unordered)
    searches = [StudySearch(setting, store, told.get(setting.context.run_id, ())) for setting in settings]
    run_here(StudyRun(searches, lambda search: None), execute)
    return folder, trained
