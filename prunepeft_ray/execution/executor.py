"""Running jobs in one process or in a group of processes that all hold the same method."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from prunepeft_ray.backbones import Backbone
from prunepeft_ray.errors import RunError
from prunepeft_ray.execution.events import Emit, Event
from prunepeft_ray.jobs import Decision, Method, TrainJob, TrainResult, Work
from prunepeft_ray.results import ResultsStore, RunContext, write_whole
from prunepeft_ray.tasks import TaskData
from prunepeft_ray.training import EncodedTask, Group, SoloGroup, Trained, encode_task, train

PROGRESS_SECONDS = 0.5


@dataclass
class Workbench:
    """What a process needs for all jobs of a search: loaded and encoded once.

    Args:
        backbone: The frozen backbone.
        data: The task.
    """

    backbone: Backbone
    data: TaskData
    _encoded: dict[int, EncodedTask] = field(default_factory=dict)

    def task(self, max_length: int) -> EncodedTask:
        """Return the task as token ids."""
        if max_length not in self._encoded:
            self._encoded[max_length] = encode_task(self.data, self.backbone, max_length)
        return self._encoded[max_length]

    def run(self, work: Work, group: Group, emit: Emit) -> Trained:
        """Train a job and tell the progress from the group's first process."""
        job = work.job
        tell = emit if group.rank == 0 else _ignore
        tell(Event("start", work.label, work.kind, job.id))
        trained = train(job, self.backbone, self.task(job.training.max_length), group, _throttled(work, tell))
        tell(Event("end", outcome(job, trained.result), work.kind, job.id))
        return trained


def outcome(job: TrainJob, result: TrainResult) -> str:
    """Say in a few words what came of a job."""
    if result.status == "failed":
        return f"failed: {result.reason}"
    measured = f", {job.evaluate} {job.metric} {result.metrics[job.metric]:.4f}" if job.metric in result.metrics else ""
    rate = result.cost.train_examples / max(result.cost.wall_seconds, 1e-9)
    seconds = result.cost.wall_seconds
    return f"{result.cost.train_examples:,} examples in {seconds:.1f} s ({rate:.0f}/s){measured}"


def _ignore(_event: Event) -> None:
    pass


def _throttled(work: Work, emit: Emit) -> Callable[[int, int], None]:
    due = time.monotonic()

    def on_step(done: int, total: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + PROGRESS_SECONDS
            emit(Event("progress", work.label, work.kind, work.job.id, done, total))

    return on_step


@dataclass
class GroupExecutor:
    """Runs work in a group of processes; every process calls the same methods with the same work.

    Independent jobs are dealt out over the processes; what does not divide evenly is trained by all together. A job
    that is in the store is not run again.

    Args:
        workbench: What jobs need.
        group: The processes; one by itself is a group too.
        store: Where results go, and come from.
        context: The run, for the store.
        checkpoints: Folder for the weights of final jobs.
        emit: Told the news.
    """

    workbench: Workbench
    group: Group
    store: ResultsStore
    context: RunContext
    checkpoints: Path
    emit: Emit

    def run(self, work: Sequence[Work]) -> list[TrainResult]:
        """Run pieces of work that do not depend on each other; returns their results in the same order.

        Raises:
            RunError: If a result cannot be stored.
        """
        # one process looks, so that all agree on what is left
        found = self.group.gather([self._find(piece) for piece in work] if self.group.rank == 0 else None)[0]
        assert found is not None
        results = dict(enumerate(found))
        missing = [i for i, result in results.items() if result is None]
        dealt = len(missing) - len(missing) % self.group.world
        mine = {i: self._run(work[i], SoloGroup()) for i in missing[self.group.rank : dealt : self.group.world]}
        for part in self.group.gather(mine):
            results |= part
        for i in missing[dealt:]:
            results[i] = self.group.gather(self._run(work[i], self.group))[0]
        return [result for _, result in sorted(results.items()) if result is not None]

    def weights(self, job: TrainJob) -> dict[str, Tensor]:
        """Return the weights of a final job that has run.

        Raises:
            RunError: If their file is damaged.
        """
        file = self._weights_file(job)
        try:
            state: dict[str, Tensor] = load_file(file)
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"{file} is damaged ({error}); delete it: 'prunepeft resume {self.checkpoints.parent}' trains it again"
            ) from error
        return state

    def _weights_file(self, job: TrainJob) -> Path:
        return self.checkpoints / f"{job.id}.safetensors"

    def _find(self, work: Work) -> TrainResult | None:
        if work.kind == "final" and not self._weights_file(work.job).is_file():
            return None
        return self.store.find(work.job.id)

    def _run(self, work: Work, group: Group) -> TrainResult:
        started = datetime.now(UTC)
        trained = self.workbench.run(work, group, self.emit)
        if group.rank == 0:
            if work.kind == "final" and trained.result.status == "done":
                self._save(work.job, trained)
            self.store.commit(self.context, work, trained.result, started, datetime.now(UTC))
        return trained.result

    def _save(self, job: TrainJob, trained: Trained) -> None:
        # safetensors' own writer raises no OSError on a full disk
        data = save(dict(trained.state))
        write_whole(self._weights_file(job), lambda file: _write_bytes(file, data), replace=True)


def _write_bytes(file: Path, data: bytes) -> None:
    file.write_bytes(data)


def drive(method: Method, executor: GroupExecutor) -> None:
    """Let a method ask, run what it asks for and tell it the results, until it is done.

    Raises:
        RunError: If a job failed, a result cannot be stored, or the method waits although nothing runs.
    """
    told = 0
    while not method.done:
        work = method.ask()
        if not work:
            raise RunError(f"method '{method.name}' waits for results, but nothing is running")
        for piece, result in zip(work, executor.run(work), strict=True):
            method.tell(piece.job, result)
        fresh = list(method.decisions[told:])
        told += len(fresh)
        if executor.group.rank == 0 and fresh:
            executor.store.commit_decisions(executor.context, fresh)
            for line in _story(fresh):
                executor.emit(Event("message", line))


def _story(decisions: Sequence[Decision]) -> list[str]:
    """Tell what a round removed, how probable that was, and which criteria judged it."""
    judged = [decision for decision in decisions if decision.step == "round"]
    gone = sorted((d for d in judged if d.removed), key=lambda d: (d.index, -d.probability))
    lines = [f"round {d.index} removed {d.slot} (p={d.probability:.3f}; {', '.join(d.criteria)})" for d in gone]
    return [*lines, f"{len(judged) - len(gone)} slots left"] if judged else []
