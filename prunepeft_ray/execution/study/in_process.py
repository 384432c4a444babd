"""The jobs of a study one by one in this process, without Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import torch

from prunepeft_ray.backbones import Backbone, read_backbone
from prunepeft_ray.errors import JobError, PrunePEFTError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.executor import GroupExecutor
from prunepeft_ray.execution.in_process import computing, hang_watchdog, stop_signal
from prunepeft_ray.execution.interruptions import StoppedError
from prunepeft_ray.execution.session import open_pool
from prunepeft_ray.execution.study.dispatcher import StudyRun, run_here
from prunepeft_ray.execution.study.failed_jobs import record_failure
from prunepeft_ray.execution.study.progress import WATCH_SECONDS, Watch
from prunepeft_ray.execution.study.search import StudySearch
from prunepeft_ray.execution.watchdog import Watchdog
from prunepeft_ray.execution.workbench import Workbench, place
from prunepeft_ray.jobs import TrainResult, Work
from prunepeft_ray.results import JobPool, ResultsStore, RunFolder
from prunepeft_ray.signals import StopRequest
from prunepeft_ray.study import StudySpec
from prunepeft_ray.tasks import TaskData
from prunepeft_ray.text import error_line
from prunepeft_ray.training import SoloGroup
from prunepeft_ray.waiting import every


def run_in_process(
    folder: RunFolder,
    spec: StudySpec,
    run: StudyRun,
    data: dict[str, TaskData],
    emit: Emit,
    watch: Watch,
    device: torch.device,
    request: StopRequest,
    pool: str | None,
) -> None:
    """Run what is left of a study in this process, with the same results as in Ray's workers.

    Args:
        folder: The study's folder.
        spec: The study.
        run: Its searches.
        data: Its tasks, by name.
        emit: Callback that receives events.
        watch: Callback that receives the progress.
        device: Device to train on.
        request: Whether a signal has requested a stop.
        pool: Folder or URL of the pool of finished jobs; None for none.

    Raises:
        PrunePEFTError: The error that ended the study.
        KeyboardInterrupt: On SIGINT, once the running job has saved its checkpoint.
        Terminated: On SIGTERM; likewise.
    """
    look = every(WATCH_SECONDS, lambda: watch(run.progress()))

    def hear(event: Event) -> None:
        emit(event)
        look()

    stop_wanted = stop_signal(request, emit)
    watchdog = hang_watchdog(spec.execution.hang_seconds, emit)
    jobs = _Jobs(folder, spec, data, hear, device, stop_wanted, watchdog, open_pool(pool, emit))
    with computing(device):
        try:
            run_here(run, jobs.run, stop_wanted)
        except StoppedError:
            request.interrupt()
    watch(run.progress())


@dataclass
class _Jobs:
    """Runs jobs in this process; backbones and encoded tasks are kept for the following ones."""

    folder: RunFolder
    spec: StudySpec
    data: dict[str, TaskData]
    emit: Emit
    device: torch.device
    stop_wanted: Callable[[], bool]
    watchdog: Watchdog
    pool: JobPool | None
    _backbones: dict[str, Backbone] = field(default_factory=dict)
    _benches: dict[tuple[str, str], Workbench] = field(default_factory=dict)

    def run(self, search: StudySearch, work: Work) -> TrainResult:
        """Run a job and store its result; one that cannot be trained is stored as failed.

        Raises:
            StoppedError: If a stop was requested; the job's checkpoint has been saved.
            PrunePEFTError: If the study cannot continue.
        """
        context, store = search.setting.context, ResultsStore(self.folder.results)
        # the title names the search, for people
        titled = Work(work.job, work.kind, f"{search.cell.title}: {work.label}")
        executor = GroupExecutor(
            self._bench(work.job.model, context.task),
            SoloGroup(),
            store,
            context,
            self.folder.checkpoints,
            self.emit,
            self.spec.execution,
            self.stop_wanted,
            self.watchdog,
            keep_weights=False,
            pool=self.pool,
        )
        started = datetime.now(UTC)
        try:
            return executor.run([titled])[0]
        except JobError as error:
            reason = str(error)
        except (PrunePEFTError, StoppedError):
            raise
        except Exception as error:  # noqa: BLE001  modules and criteria may be third-party code
            reason = f"{type(error).__name__}: {error_line(error)}"
        self.emit(Event("end", f"failed: {reason}", work.kind, work.job.id))
        return record_failure(store, self.folder.checkpoints, context, titled, reason, started)

    def _bench(self, model: str, task: str) -> Workbench:
        if model not in self._backbones:
            self._backbones[model] = place(read_backbone(model), self.spec.training.precision, self.device)
        if (model, task) not in self._benches:
            bench = self._benches[model, task] = Workbench(self._backbones[model], self.data[task])
            if line := bench.cut_line(self.spec.training.max_length):
                self.emit(Event("message", f"{task}, {model}: {line}"))
        return self._benches[model, task]
