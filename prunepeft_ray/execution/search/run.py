"""A whole search in a group of processes: prepare, drive the method, write the answer. Does not import Ray."""

from __future__ import annotations

from collections.abc import Callable

from prunepeft_ray.config import SearchSpec
from prunepeft_ray.errors import RunError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.drive import drive
from prunepeft_ray.execution.executor import GroupExecutor
from prunepeft_ray.execution.job_checkpoint import discard_all
from prunepeft_ray.execution.plan import plan_search
from prunepeft_ray.execution.search.answer import _leave_answer
from prunepeft_ray.execution.session import describe_missing
from prunepeft_ray.execution.watchdog import Watchdog
from prunepeft_ray.execution.workbench import Workbench
from prunepeft_ray.pruning import PrunePEFT
from prunepeft_ray.results import JobPool, ResultsStore, RunContext, RunFolder, decision_files, hardware, versions
from prunepeft_ray.text import counted
from prunepeft_ray.training import Group, batch_parts


def run_search(
    spec: SearchSpec,
    folder: RunFolder,
    bench: Workbench,
    group: Group,
    emit: Emit,
    stop_wanted: Callable[[], bool] = lambda: False,
    watchdog: Watchdog | None = None,
    pool: JobPool | None = None,
) -> None:
    """Run a search to its end, in this process or identically in all processes of a group.

    Results of finished jobs are read from the run's results store. The first process writes the answer.

    Args:
        spec: The search.
        folder: The run's folder.
        bench: Backbone and task.
        group: The processes.
        emit: Callback that receives events.
        stop_wanted: Whether the search has been asked to stop.
        watchdog: Touched at every step; None for no watchdog.
        pool: The pool of finished jobs; None for none.

    Raises:
        InputError: If the settings do not fit the model.
        RunError: If a job failed, or results cannot be written.
        StoppedError: If the search has been asked to stop.
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
    if group.rank == 0 and (line := _idle_line(batch_parts(spec.training, bench.backbone.device, group.world), group)):
        emit(Event("message", line))
    store = ResultsStore(folder.results)
    executor = GroupExecutor(
        bench, group, store, context, folder.checkpoints, emit, spec.execution, stop_wanted, watchdog, pool=pool
    )
    drive(method, executor)
    if group.rank == 0:
        _check_kept(folder, executor, method)
        _leave_answer(plan, method, folder, bench, executor)
        discard_all(folder.checkpoints)


def _idle_line(parts: int, group: Group) -> str | None:
    """Say how many workers have nothing to do where all train a job together; None if there are none."""
    idle = group.world - parts
    if idle <= 0:
        return None
    return (
        f"batches are split into {counted(parts, 'part')} (training.micro_batches): where all workers train a job "
        f"together, {idle} of {group.world} are idle"
    )


def _check_kept(folder: RunFolder, executor: GroupExecutor, method: PrunePEFT) -> None:
    """Read back everything that the answer depends on.

    Raises:
        RunError: If anything is missing or damaged.
    """
    decisions = decision_files(executor.context, method.decisions)
    if missing := executor.store.missing(executor.told, decisions=decisions):
        raise RunError(describe_missing(folder, missing))
    for job_id in executor.told:
        executor.store.find(job_id)
