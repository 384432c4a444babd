"""The workers of a study, each alone or several together. Import this module only when Ray is configured."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
import torch

from prunepeft_ray.backbones import Backbone, read_backbone
from prunepeft_ray.config import ExecutionConfig, TrainingConfig
from prunepeft_ray.errors import JobError, PrunePEFTError
from prunepeft_ray.events import Event
from prunepeft_ray.execution.executor import GroupExecutor
from prunepeft_ray.execution.interruptions import BrokenGroupError, StoppedError
from prunepeft_ray.execution.mailbox import Sender
from prunepeft_ray.execution.rendezvous import join_group, listen_on_node
from prunepeft_ray.execution.session import open_pool
from prunepeft_ray.execution.shared_memory import Shared, open_shared
from prunepeft_ray.execution.study.failed_jobs import record_failure
from prunepeft_ray.execution.watchdog import Watchdog
from prunepeft_ray.execution.workbench import Workbench, place
from prunepeft_ray.jobs import Work
from prunepeft_ray.plugins import load_plugins
from prunepeft_ray.results import ResultsStore, RunContext, RunFolder, hardware
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.text import error_line
from prunepeft_ray.training import EncodedTask, Group, SoloGroup


@dataclass(frozen=True)
class Assignment:
    """A job assigned to a worker.

    Args:
        work: The job, with kind and label.
        context: The search that asked for it first.
    """

    work: Work
    context: RunContext


@dataclass(frozen=True)
class SharedState:
    """What all workers of a study share.

    Args:
        folder: The study's folder, which all workers can see.
        mailbox: Actor handle of the mailbox.
        backbones: The shared backbone of each model; None if it was too large.
        tasks: The shared encoded task of each model and task; or a reference to a copy for each worker, in a list.
        settings: Settings of checkpoints and retries.
        plugins: User plugins.
        training: The recipe that all jobs share: precision and maximum number of tokens.
        pool: Folder or URL of the pool of finished jobs; None for none.
    """

    folder: str
    mailbox: Any
    backbones: dict[str, Shared | None]
    tasks: dict[tuple[str, str], Shared | list[Any]]
    settings: ExecutionConfig
    plugins: tuple[str, ...]
    training: TrainingConfig
    pool: str | None = None


class Worker:
    """A process that runs jobs; keeps backbones and tasks for the following ones."""

    def __init__(self, shared: SharedState) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            # one thread per worker, so that sums do not depend on the number of workers and cores
            torch.set_num_threads(1)
        load_plugins(shared.plugins)
        self.shared = shared
        self.sender = Sender(shared.mailbox)
        self.pool = open_pool(shared.pool, self.sender.emit)
        self.group: Group = SoloGroup()
        self._backbones: dict[str, Backbone] = {}
        self._benches: dict[tuple[str, str], Workbench] = {}
        ray.get(shared.mailbox.join.remote(ray.get_runtime_context().current_actor))

    def join(self, rank: int, world: int, address: tuple[str, int], listener: socket.socket | None = None) -> None:
        """Join a group of workers that train together; see :func:`join_group`."""
        self.group = join_group(rank, world, address, listener)

    def run(self, assignment: Assignment) -> str:
        """Run a job and store its result.

        Returns:
            ``"finished"``, also if the job failed; ``"stopped"``; or the error because of which the study cannot
            continue.

        Raises:
            Exception: Any error that a retry may fix.
        """
        work = assignment.work
        context = replace(assignment.context, hardware=hardware())
        folder = RunFolder(open_path(self.shared.folder))
        store = ResultsStore(folder.results)
        started = datetime.now(UTC)
        try:
            self._executor(work, context, store, folder.checkpoints).run([work])
        except StoppedError:
            return "stopped"
        except (JobError, BrokenGroupError) as error:
            what = error.error if isinstance(error, BrokenGroupError) else error
            if what is None:
                raise
            record_failure(store, folder.checkpoints, context, work, str(what), started)
            self.sender.emit(Event("end", f"failed: {what}", work.kind, work.job.id))
        except PrunePEFTError as error:
            return str(error)
        finally:
            self.sender.settle()
        return "finished"

    def _executor(self, work: Work, context: RunContext, store: ResultsStore, checkpoints: Path) -> GroupExecutor:
        seconds = self.shared.settings.hang_seconds
        return GroupExecutor(
            self._bench(work.job.model, context.task),
            self.group,
            store,
            context,
            checkpoints,
            self.sender.emit,
            self.shared.settings,
            self.sender.stop_wanted,
            Watchdog(seconds, lambda: self._end_hung(work, seconds)),
            keep_weights=False,
            pool=self.pool,
        )

    def _end_hung(self, work: Work, seconds: float) -> None:
        self.sender.emit(Event("message", f"{work.label}: no step for {seconds:g} s; its worker is killed"))
        self.sender.settle()
        os._exit(1)

    def _bench(self, model: str, task: str) -> Workbench:
        if (model, task) not in self._benches:
            backbone = self._backbone(model)
            handle = self.shared.tasks[model, task]
            encoded: EncodedTask = open_shared(handle) if isinstance(handle, Shared) else ray.get(handle[0])
            self._benches[model, task] = Workbench(backbone, encoded.data, {self.shared.training.max_length: encoded})
        return self._benches[model, task]

    def _backbone(self, model: str) -> Backbone:
        if model not in self._backbones:
            handle = self.shared.backbones[model]
            found: Backbone = open_shared(handle) if handle else read_backbone(model)
            self._backbones[model] = place(found, self.shared.training.precision, self.device)
        return self._backbones[model]


class TrialWorkers:
    """The workers of a trial: one in the trial's own actor, the others in the trial's placement group.

    Args:
        shared: What all workers of the study share.
        workers: Number of workers.
    """

    def __init__(self, shared: SharedState, workers: int) -> None:
        self._worker = Worker(shared)
        self._others: list[Any] = []
        if workers > 1:
            self._start_others(shared, workers)

    def _start_others(self, shared: SharedState, workers: int) -> None:
        group = ray.util.get_current_placement_group()
        resources = [bundle for bundle in group.bundle_specs if bundle][1:]
        self._others = [
            ray.remote(Worker)
            .options(
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                scheduling_strategy=ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group, number),
            )
            .remote(shared)
            for number, bundle in enumerate(resources, start=1)
        ]
        # a worker that is lost during its start is noticed here; in the rendezvous the others would wait for it
        ray.get([other.__ray_ready__.remote() for other in self._others])
        listener = listen_on_node()
        address = listener.getsockname()[:2]
        joined = [other.join.remote(rank, workers, address) for rank, other in enumerate(self._others, start=1)]
        self._worker.join(0, workers, address, listener)
        ray.get(joined)

    def run(self, assignment: Assignment) -> str:
        """Run a job; see :meth:`Worker.run`.

        Raises:
            Exception: Any error that a retry may fix.
        """
        others = [other.run.remote(assignment) for other in self._others]
        try:
            outcome = self._worker.run(assignment)
            ray.get(others)
        except Exception as error:
            text = f"{type(error).__name__}: {error_line(error)}"
            work = assignment.work
            self._worker.sender.emit(Event("message", f"{work.label}: {text}", work.kind, work.job.id))
            self._worker.sender.settle()
            raise
        return outcome
