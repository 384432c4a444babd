"""Measurements of jobs: of a finished run, or of a few short jobs that are trained for the purpose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.backbones import load_backbone, load_outline
from prunepeft_ray.events import Emit, Event, message_emitter
from prunepeft_ray.execution.simulation.costs import Measured
from prunepeft_ray.execution.simulation.footprint import Counts, Workload, footprint, measure_workload
from prunepeft_ray.execution.study.dispatcher import compute_alone
from prunepeft_ray.execution.study.setting import Setting
from prunepeft_ray.jobs import TrainJob
from prunepeft_ray.plugins import load_run_plugins
from prunepeft_ray.pruning import make_job
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.tasks import TaskData, load_task
from prunepeft_ray.training import SoloGroup, encode_task, train

BATCHES = (2, 6)
"""Number of batches of the short jobs: two sizes tell the cost of a batch from that of a job."""


def jobs_of_run(folder: RunFolder, emit: Emit, trust_plugins: bool = False) -> list[Measured]:
    """Return the measurements of a run's finished jobs; those that were interrupted or failed are left out.

    Args:
        folder: A search or a study.
        emit: Callback that receives events.
        trust_plugins: Whether to import plugins named in the folder that this user has not used on this machine.

    Raises:
        InputError: If a task or a model of the run cannot be loaded, or its plugins are not trusted.
    """
    spec = folder.study if folder.is_study else folder.spec
    load_run_plugins(spec.plugins, folder.path, trust_plugins)
    tasks = folder.study.tasks if folder.is_study else (folder.spec.task,)
    models = folder.study.models if folder.is_study else (folder.spec.model,)
    data = {task.name: load_task(task, message_emitter(emit)) for task in tasks}
    workloads = {
        (model, name): measure_workload(model, load_outline(model), data[name], spec.training.max_length)
        for model in models
        for name in data
    }
    rows = ResultsStore(folder.results).read("jobs")
    usable = rows[(rows["status"] == "done") & (rows["restarts"] == 0)]
    return [_measured(row, workloads[row["model"], row["task"]]) for row in usable.to_dict("records")]


def _measured(row: Mapping[Any, Any], workload: Workload) -> Measured:
    job = json.loads(row["job_json"])
    counts = Counts(row["train_examples"], row["eval_examples"], row["steps"], workers=max(1, len(row["workers"])))
    work = footprint(
        Architecture.from_dict(job["architecture"]),
        job["collect"],
        row["micro_batches"],
        row["parameters"],
        counts,
        workload,
    )
    # more than wall_seconds: inserting modules, and committing the result, take time as well
    return Measured(work, (row["finished_at"] - row["started_at"]).total_seconds())


def short_jobs(setting: Setting, data: TaskData, workload: Workload, emit: Emit) -> list[Measured]:
    """Train a few short jobs on a setting's model and task in this process, and return their measurements.

    Args:
        setting: A search of a study.
        data: Its task.
        workload: The sizes of its model and task.
        emit: Callback that receives events.

    Raises:
        InputError: If the model cannot be loaded.
    """
    jobs = list(_short_jobs(setting, len(data.train)))
    model = setting.cell.model
    emit(Event("message", f"measuring {len(jobs)} short jobs of {model} on this machine"))
    # as a worker does
    compute_alone()
    backbone = load_backbone(model, "cuda" if torch.cuda.is_available() else "cpu")
    task = encode_task(data, backbone, setting.study.training.max_length)
    measured = []
    # the first one warms up and is not counted
    for job in [jobs[0], *jobs]:
        result = train(job, backbone, task, SoloGroup(), lambda done, total: None).result
        cost = result.cost
        counts = Counts(cost.train_examples, cost.eval_examples, cost.steps)
        work = footprint(job.architecture, job.collect, result.micro_batches, result.parameters, counts, workload)
        measured.append(Measured(work, cost.wall_seconds))
    return measured[1:]


def _short_jobs(setting: Setting, train_size: int) -> Iterable[TrainJob]:
    """Yield jobs that differ in size, filled slots, criteria and evaluation."""
    problem = setting.problem
    supernet, criteria = problem.space.supernet, problem.spec.pruning.criteria
    top = supernet.without(slot for slot in supernet.slots if slot.layer < problem.layers // 2)
    lowest = supernet.without(supernet.slots[1:])
    for architecture, collect in ((supernet, ()), (supernet, criteria), (top, ()), (lowest, ())):
        for batches in BATCHES:
            yield make_job(
                problem.template,
                architecture,
                seed=0,
                epochs=1,
                collect=collect,
                train_size=min(batches * problem.template.training.batch_size, train_size),
                holdout=0.5 if batches == max(BATCHES) else 0.0,
                evaluate="holdout" if batches == max(BATCHES) else "none",
            )
