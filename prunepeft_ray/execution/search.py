"""A whole search in a group of processes: prepare, drive the method, leave the answer behind. No Ray here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from safetensors import SafetensorError

from prunepeft_ray.architecture import Space, block_sizes, check_budget, parse_budget
from prunepeft_ray.backbones import Backbone
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.errors import RunError
from prunepeft_ray.execution.checkpoints import discard_all
from prunepeft_ray.execution.events import Emit, Event
from prunepeft_ray.execution.executor import GroupExecutor, Workbench, drive
from prunepeft_ray.execution.watchdog import Watchdog
from prunepeft_ray.jobs import TrainJob
from prunepeft_ray.modules import MODULE_TYPES, AdapterConfig, build_space, save_adapter
from prunepeft_ray.paths import check_within, one_line
from prunepeft_ray.pruning import PrunePEFT, Strategy
from prunepeft_ray.results import ResultsStore, RunContext, RunFolder, decision_files, hardware, versions
from prunepeft_ray.tasks import TaskData
from prunepeft_ray.training import Group


@dataclass(frozen=True)
class Plan:
    """What a search works with once model and task are known.

    Args:
        space: The supernet's space.
        budget: Most PEFT parameters.
        template: The job that all jobs are made from.
        blocks: Sizes of the blocks.
    """

    space: Space
    budget: int
    template: TrainJob
    blocks: tuple[int, ...]

    def method(self, spec: SearchSpec, strategy: Strategy | None = None) -> PrunePEFT:
        """Build the search method."""
        return PrunePEFT(spec, self.space, self.budget, self.template, strategy)


def plan_search(spec: SearchSpec, backbone: Backbone, data: TaskData) -> Plan:
    """Work out space, budget and job template.

    Args:
        spec: The search.
        backbone: The backbone; weights on the meta device are enough.
        data: The task.

    Raises:
        InputError: If space, budget, blocks or method settings do not fit the model.
    """
    space = build_space(spec.space, backbone)
    budget = parse_budget(spec.budget, backbone.parameters)
    check_budget(spec.budget, budget, space)
    template = TrainJob(
        model=spec.model,
        model_fingerprint=backbone.fingerprint,
        task=spec.task.name,
        task_fingerprint=data.fingerprint,
        metric=data.metric,
        architecture=space.supernet,
        modules=spec.modules,
        training=spec.training,
        seed=spec.seed,
    )
    return Plan(space, budget, template, block_sizes(space.layers, spec.pruning.blocks))


def run_search(
    spec: SearchSpec,
    folder: RunFolder,
    bench: Workbench,
    group: Group,
    emit: Emit,
    stop_wanted: Callable[[], bool] = lambda: False,
    watchdog: Watchdog | None = None,
) -> None:
    """Run a search to its end in this process, or in all processes of a group alike.

    Finished jobs are taken from the run's results store. The first process writes the answer.

    Args:
        spec: The search.
        folder: The run's folder.
        bench: Backbone and task.
        group: The processes.
        emit: Told the news.
        stop_wanted: Whether somebody wants the search to stop.
        watchdog: Touched at every step.

    Raises:
        InputError: If the settings do not fit the model.
        RunError: If a job failed, or results cannot be written.
        StoppedError: If somebody wants the search to stop.
    """
    plan = plan_search(spec, bench.backbone, bench.data)
    method = plan.method(spec)
    context = RunContext(
        run_id=folder.run_id,
        method=method.name,
        task=spec.task.name,
        model=spec.model,
        seed=spec.seed,
        budget=plan.budget,
        backbone_parameters=bench.backbone.parameters,
        task_train_size=len(bench.data.train),
        versions=versions(),
        hardware=hardware(),
    )
    if group.rank == 0 and (line := bench.cut_line(spec.training.max_length)):
        emit(Event("message", line))
    store = ResultsStore(folder.results)
    executor = GroupExecutor(
        bench, group, store, context, folder.checkpoints, emit, spec.execution, stop_wanted, watchdog
    )
    drive(method, executor)
    if group.rank == 0:
        _check_kept(folder, executor, method)
        _leave_answer(plan, method, folder, bench, executor)
        discard_all(folder.checkpoints)


def _check_kept(folder: RunFolder, executor: GroupExecutor, method: PrunePEFT) -> None:
    """Read back all that the answer rests on.

    Raises:
        RunError: If anything is missing or damaged.
    """
    decisions = decision_files(executor.context, method.decisions)
    if gone := executor.store.missing(executor.told, decisions=decisions):
        raise RunError(what_is_gone(folder, gone))
    for job_id in executor.told:
        executor.store.find(job_id)


def what_is_gone(folder: RunFolder, gone: list[str]) -> str:
    """Say which files of a results store are missing, and what to do.

    Args:
        folder: The run.
        gone: The files, as ``table/name``.
    """
    which = f"{gone[0]}.parquet" + (f" and {len(gone) - 1} more" if len(gone) > 1 else "")
    return (
        f"{folder.results} lacks {which}, which the answer rests on (were they deleted?); the rest is safe: "
        f"'prunepeft resume {folder.path}' computes what is missing"
    )


def _leave_answer(plan: Plan, method: PrunePEFT, folder: RunFolder, bench: Workbench, executor: GroupExecutor) -> None:
    spec, job, found = method.spec, method.final_job, method.best()
    assert job is not None
    if method.strategy is not None:
        folder.write_json("strategy.json", method.strategy.to_dict())
    config = AdapterConfig(
        model=spec.model,
        model_fingerprint=bench.backbone.fingerprint,
        task=spec.task.name,
        labels=bench.data.labels,
        metrics=(bench.data.metric, *(name for name in bench.data.metrics if name != bench.data.metric)),
        max_length=spec.training.max_length,
        architecture=found,
        modules=spec.modules,
    )
    result = executor.store.find(job.id)
    assert result is not None
    card = model_card(config, plan.space.parameters(found), bench.backbone.parameters, dict(result.test))
    check_within(folder.adapter, folder.path)
    try:
        save_adapter(folder.adapter, executor.weights(job), config, card)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{folder.adapter} cannot be written ({one_line(error)}); all finished jobs are safe: free some space, "
            f"then type 'prunepeft resume {folder.path}'"
        ) from error
    folder.write_json(
        "architecture.json",
        found.to_dict()
        | {
            "supernet": plan.space.supernet.to_dict(),
            "layers": plan.space.layers,
            "blocks": list(plan.blocks),
            "parameters": plan.space.parameters(found),
            "head_parameters": result.head_parameters,
            "backbone_parameters": bench.backbone.parameters,
            "budget": plan.budget,
            "jobs": list(executor.told),
        },
    )


def model_card(config: AdapterConfig, parameters: int, backbone_parameters: int, test: dict[str, float]) -> str:
    """Describe an adapter in Markdown: what it is, what it scores, how to load it."""
    measured = "\n".join(f"| {name} | {value:.4f} |" for name, value in test.items())
    slots = "\n".join(
        f"| {slot.layer} | {slot.kind} | {MODULE_TYPES[module.type].label} | {module.size} |"
        for slot, module in config.architecture
    )
    return f"""# PEFT adapter for {config.task}

Found by PrunePEFT-Ray: {len(config.architecture)} modules, {parameters:,} parameters
({100 * parameters / backbone_parameters:.2f} % of the backbone `{config.model}`).

| test metric | value |
|---|---|
{measured}

| layer | slot kind | module | size |
|---|---|---|---|
{slots}

```python
from prunepeft_ray import load_adapter

predictor = load_adapter("adapter")  # the folder of this file
print(predictor.predict(["some text"]))
```
"""
