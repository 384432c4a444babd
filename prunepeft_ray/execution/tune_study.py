"""A study as one run of Ray Tune, a trial for each job; import it only when Ray is configured."""

from __future__ import annotations

import logging
import os
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from prunepeft_ray.backbones import read_backbone
from prunepeft_ray.errors import PrunePEFTError, RunError
from prunepeft_ray.execution.claiming import Share, ShareNews, Whole
from prunepeft_ray.execution.events import Emit, Event
from prunepeft_ray.execution.following import STOP_SECONDS, Fitting, every, follow, nowhere, start_board
from prunepeft_ray.execution.sharing import share
from prunepeft_ray.execution.signals import StopRequest
from prunepeft_ray.execution.study_run import StudyRun, Watch
from prunepeft_ray.execution.team import Assignment, Workplace, record_failure
from prunepeft_ray.execution.trial import JobTrial
from prunepeft_ray.jobs import Work
from prunepeft_ray.paths import one_line
from prunepeft_ray.results import ResultsStore, RunContext, RunFolder
from prunepeft_ray.study import StudyExecutionConfig, StudySpec
from prunepeft_ray.tasks import TaskData
from prunepeft_ray.training import encode_task

WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class _Try:
    """A job that is a trial, or will be again."""

    work: Work
    title: str
    context: RunContext
    started: datetime


class JobSearcher(Searcher):  # type: ignore[misc]
    """What Tune asks for the next trial: all methods of a study at once, behind its :class:`StudyRun`.

    A job whose trial ends with an error is tried again here, as another trial. Tune's own way loses jobs: an idle actor
    that has died is noticed when it is given a trial, which Tune then gives up for good.

    Args:
        run: The study.
        store: Where results are.
        stop_wanted: Whether no new job should begin.
        attempts: How often a job is tried.
        at_once: How many jobs may run now.
        emit: Told of jobs that are tried again.

    Attributes:
        error: Why the study cannot go on.
        said: What workers said last of jobs that ended with an error.
    """

    def __init__(
        self,
        run: StudyRun,
        store: ResultsStore,
        stop_wanted: Callable[[], bool],
        attempts: int,
        at_once: Callable[[], int],
        emit: Emit,
    ) -> None:
        super().__init__(metric="done", mode="max")
        self.run = run
        self.error: str | None = None
        self.said: dict[str, str] = {}
        self._store = store
        self._stop_wanted = stop_wanted
        self._attempts = attempts
        self._at_once = at_once
        self._emit = emit
        self._trials: dict[str, _Try] = {}
        self._again: deque[_Try] = deque()
        self._unbegun: set[str] = set()
        self._errors: Counter[str] = Counter()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next job as a trial's configuration, None to wait, or that there will be no more."""
        if self.error is not None or self._stop_wanted() or self.run.over:
            return str(Searcher.FINISHED)
        if len(self._trials) >= self._at_once():
            return None
        found = self._again.popleft() if self._again else self._next()
        if found is None:
            return None
        self._trials[trial_id] = found
        # people see whose job it is
        titled = Work(found.work.job, found.work.kind, found.title)
        return {"assignment": Assignment(titled, found.context)}

    def _next(self) -> _Try | None:
        if (found := self.run.next()) is None:
            return None
        search, work = found
        return _Try(work, f"{search.cell.title}: {work.label}", search.setting.context, datetime.now(UTC))

    def note_unbegun(self, trial_id: str) -> None:
        """Note that a trial's actor was dead before the trial began: no attempt was made of its job."""
        self._unbegun.add(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the methods what the store has of a trial's job; one that failed too often leaves a failed job."""
        tried = self._trials.pop(trial_id)
        outcome = None if error or result is None else result["outcome"]
        if outcome == "stopped" or (outcome is None and self._stop_wanted()):
            return
        if outcome not in (None, "finished"):
            self.error = outcome
            return
        job_id = tried.work.job.id
        found = self._store.find(job_id)
        if found is None:
            if self._is_tried_again(trial_id, tried):
                return
            found = record_failure(self._store, tried.context, tried.work, self._reason(job_id), tried.started)
        self.run.finish(job_id, found)

    def _is_tried_again(self, trial_id: str, tried: _Try) -> bool:
        job_id = tried.work.job.id
        self._errors[job_id] += trial_id not in self._unbegun
        again = self._errors[job_id] < self._attempts
        if again:
            self._again.append(tried)
            which = f"{self._errors[job_id]} of at most {self._attempts - 1} times"
            if trial_id not in self._unbegun:
                text = f"{tried.title}: its worker was lost, or ended with an error; trying again ({which})"
                self._emit(Event("message", text, tried.work.kind, job_id))
        self._unbegun.discard(trial_id)
        return again

    def _reason(self, job_id: str) -> str:
        lost = f"its worker was lost, or ended with an error, {self._attempts} times"
        return f"{lost}; {self.said[job_id]}" if job_id in self.said else lost

    def __getstate__(self) -> dict[str, Any]:
        """Leave nothing for Tune's own snapshots, which are never read."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the truth about a study is its results store."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class OldestFirst(FIFOScheduler):  # type: ignore[misc]
    """Gives an actor that falls idle to the trial that was added first.

    Args:
        searcher: Told which trials never began.
    """

    def __init__(self, searcher: JobSearcher) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002  Tune's signature
        """Note whether a trial that ends with an error had begun."""
        if trial.status == "PENDING":
            self._searcher.note_unbegun(trial.trial_id)


class NewestFirst(OldestFirst):
    """Gives an actor that falls idle to the trial that was added last, where there is room for every trial.

    Given to the oldest, as Tune does it, it would go to one whose own actor is just starting, and that one be given up:
    with jobs that are shorter than the start of an actor, a study would never grow.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the trial that is to run next, or None."""
        return next((trial for trial in reversed(tune_controller.get_trials()) if trial.status == "PENDING"), None)


def run_study(
    folder: RunFolder,
    spec: StudySpec,
    run: StudyRun,
    data: dict[str, TaskData],
    emit: Emit,
    watch: Watch,
    request: StopRequest,
    part: Share,
    unit: list[dict[str, float]],
) -> None:
    """Run all that is left of a study on the cluster that this process has joined.

    Args:
        folder: The study's folder, which all workers can see.
        spec: The study.
        run: Its searches.
        data: Its tasks, by name.
        emit: Told the news.
        watch: Shown the progress.
        request: Whether a signal has asked for an end.
        part: What the study may use of the cluster, a unit for each job.
        unit: Resources of each worker of a job.

    Raises:
        PrunePEFTError: What ended the study.
        KeyboardInterrupt: On SIGINT, once running jobs have kept their state.
        Terminated: On SIGTERM, likewise.
    """
    # the searcher says how many; the cluster may grow
    configure_tune(pending=10**6)
    board = start_board()
    place = share_study(folder, spec, data, board)
    attempts = spec.execution.max_failures + 1
    store = ResultsStore(folder.results)
    searcher = JobSearcher(run, store, lambda: request.signal is not None, attempts, lambda: part.units, emit)

    def hear(event: Event) -> None:
        if event.type == "message" and event.job_id:
            searcher.said[event.job_id] = event.text
        emit(event)

    news = ShareNews(part, emit)

    def look() -> None:
        part.wants(run.wanted)
        news.tell()
        watch(run.progress())

    # on a cluster of its own a study has more trials than room, and the oldest must not wait for ever
    scheduler = OldestFirst(searcher) if isinstance(part, Whole) else NewestFirst(searcher)
    fitting = Fitting(lambda: build_tuner(searcher, scheduler, place, spec.execution, unit).fit())
    try:
        follow(fitting, board, hear, request, every(WATCH_SECONDS, look))
    finally:
        # Tune notices that nothing more comes; left alone, it would start a cluster of its own once this one is gone
        fitting.join(STOP_SECONDS)
    watch(run.progress())
    if request.signal is not None:
        request.end()
    _raise_what_ended(run, searcher, fitting, folder)


def build_tuner(
    searcher: JobSearcher,
    scheduler: OldestFirst,
    place: Workplace,
    execution: StudyExecutionConfig,
    unit: list[dict[str, float]],
) -> Any:
    """Build the Tune run: as many trials as the searcher wants, one after another in actors that stay."""
    trainable = tune.with_parameters(JobTrial, place=place, workers=execution.workers)
    return tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory(unit)),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=f"study-{uuid.uuid4().hex[:8]}",
            storage_path="ray",
            storage_filesystem=nowhere(),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )


def share_study(folder: RunFolder, spec: StudySpec, data: dict[str, TaskData], board: Any) -> Workplace:
    """Load every backbone and encode every task once for all workers.

    Raises:
        PrunePEFTError: If a backbone cannot be loaded.
    """
    place = Workplace(
        folder=str(folder.path.absolute()),
        board=board,
        backbones={},
        tasks={},
        settings=spec.execution,
        plugins=spec.plugins,
        max_length=spec.training.max_length,
    )
    for model in spec.models:
        backbone = read_backbone(model)
        place.backbones[model] = share(backbone)
        for task in spec.tasks:
            encoded = encode_task(data[task.name], backbone, spec.training.max_length)
            # inside a list the reference travels instead of the data
            place.tasks[model, task.name] = share(encoded) or [ray.put(data[task.name])]
    return place


def configure_tune(pending: int) -> None:
    """Switch off what Tune keeps and prints of its own: our store is the truth, and we show the progress.

    Args:
        pending: Most trials that it has ready; by default a single one, and then idle nodes fill slowly.
    """
    settings = {
        "TUNE_MAX_PENDING_TRIALS_PG": str(pending),
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
        "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": str(10**9),
        "RAY_AIR_NEW_OUTPUT": "0",
    }
    os.environ.update(settings)
    # it ends with a list of the trials that failed, whose jobs were tried again in others
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)


def _trial_name(trial: Any) -> str:
    return f"job-{trial.trial_id}"


def _raise_what_ended(run: StudyRun, searcher: JobSearcher, fitting: Fitting, folder: RunFolder) -> None:
    safe = f"finished jobs and checkpoints are safe: 'prunepeft resume {folder.path}' goes on"
    if searcher.error is not None:
        raise RunError(f"{searcher.error}; {safe}")
    for error in (run.error, fitting.error):
        if isinstance(error, PrunePEFTError):
            raise error
        if error is not None:
            raise RunError(f"the study failed: {type(error).__name__}: {one_line(error)}; {safe}") from error
