"""The plan of a study: its searches, checked before anything starts."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from prunepeft_ray.backbones import Backbone, load_outline
from prunepeft_ray.errors import InputError, PrunePEFTError
from prunepeft_ray.events import Emit, Event, message_emitter
from prunepeft_ray.execution.plan import example_flops, plan_search
from prunepeft_ray.execution.study.setting import Setting
from prunepeft_ray.methods import METHODS, Problem
from prunepeft_ray.modules import module_cost
from prunepeft_ray.results import RunContext, hardware, search_key, versions
from prunepeft_ray.study import Cell, StudySpec
from prunepeft_ray.tasks import TaskData, load_task
from prunepeft_ray.text import error_line


def plan_study(spec: StudySpec, emit: Emit) -> tuple[list[Setting], dict[str, TaskData]]:
    """Load the tasks, inspect the models, and build every method once to check that it works with them.

    Args:
        spec: The study.
        emit: Callback that receives events.

    Returns:
        A setting for each search, and the tasks by name.

    Raises:
        InputError: If anything is wrong; the message names it.
    """
    for method in spec.methods:
        METHODS.options(method.name, method.options)
    emit(Event("message", f"reading {_count(spec.tasks, 'task')} and {_count(spec.models, 'model')}"))
    data = {task.name: load_task(task, message_emitter(emit)) for task in spec.tasks}
    outlines = {model: load_outline(model) for model in spec.models}
    facts = versions(), hardware()
    settings = [_setting(spec, cell, outlines[cell.model], data[cell.task.name], *facts) for cell in spec.cells()]
    checked: set[tuple[str, str, str]] = set()
    for setting in settings:
        cell = setting.cell
        # the seed does not matter for these checks
        if (key := (cell.method.label, cell.task.name, cell.model)) not in checked:
            checked.add(key)
            _try_to_build(setting)
    return settings, data


def study_flops(settings: list[Setting], data: Mapping[str, TaskData]) -> float:
    """Estimate the floating-point operations of all training in a study, as if each method used all evaluations."""
    length = settings[0].study.training.max_length
    outlines = {model: load_outline(model) for model in settings[0].study.models}
    per_example = {
        (model, task): example_flops(outline, data[task], length)
        for model, outline in outlines.items()
        for task in data
    }
    total = 0.0
    for setting in settings:
        study, cell, size = setting.study, setting.cell, setting.train_size
        candidate = study.candidate.epochs * min(study.candidate.train_size or size, size)
        examples = setting.problem.evaluations * candidate + len(study.seeds) * study.training.epochs * size
        total += examples * per_example[cell.model, cell.task.name]
    return total


def _try_to_build(setting: Setting) -> None:
    cell = setting.cell
    where = f"{cell.method.label}, {cell.task.name}, {cell.model}"
    try:
        setting.build()
    except PrunePEFTError as error:
        raise type(error)(f"{where}: {error}") from error
    except Exception as error:
        raise InputError(f"{where}: the method cannot be built: {type(error).__name__}: {error_line(error)}") from error


def _count(items: tuple[object, ...], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _setting(
    spec: StudySpec,
    cell: Cell,
    outline: Backbone,
    data: TaskData,
    versions: Mapping[str, str],
    hardware: Mapping[str, str],
) -> Setting:
    search = spec.search_spec(cell)
    plan = plan_search(search, outline, data)
    problem = Problem(
        spec=search,
        space=plan.space,
        budget=plan.budget,
        template=plan.template,
        hidden=outline.hidden_size,
        cost=functools.cache(functools.partial(module_cost, outline)),
        candidate=spec.candidate,
        evaluations=cell.method.evaluations or spec.limits.evaluations,
    )
    label, task = cell.method.label, cell.task.name
    context = RunContext(
        run_id=search_key(spec.id, label, task, cell.model, cell.seed),
        method=label,
        task=task,
        model=cell.model,
        seed=cell.seed,
        budget=plan.budget,
        backbone_parameters=outline.parameters,
        task_train_size=len(data.train),
        versions=versions,
        hardware=hardware,
    )
    return Setting(spec, cell, problem, context)
