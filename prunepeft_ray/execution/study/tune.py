"""A study as one run of Ray Tune, a trial for each job; import it only when Ray is configured."""

from __future__ import annotations

import logging
import os
import uuid
from dataclasses import replace
from typing import Any

import ray
from ray import tune

from prunepeft_ray.cluster.private_ray.tune import use_our_actor_manager
from prunepeft_ray.cluster.private_ray.wording import TUNE_LOGGER, TUNE_SETTINGS
from prunepeft_ray.cluster.sharing.claim import Share, ShareReporter, WholeCluster
from prunepeft_ray.errors import PrunePEFTError, RunError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.failures import Failures
from prunepeft_ray.execution.mailbox import start_mailbox, stop_mailbox
from prunepeft_ray.execution.ray_errors import describe_failure, how_to_resume, own_error
from prunepeft_ray.execution.shared_memory import share
from prunepeft_ray.execution.study.dispatcher import StudyRun
from prunepeft_ray.execution.study.progress import WATCH_SECONDS, Watch
from prunepeft_ray.execution.study.trainable import JobTrial
from prunepeft_ray.execution.study.tune_schedulers import NewestFirst, OldestFirst
from prunepeft_ray.execution.study.tune_searcher import JobSearcher
from prunepeft_ray.execution.study.workers import SharedState
from prunepeft_ray.execution.supervise import STOP_SECONDS, BackgroundRun, follow, nowhere
from prunepeft_ray.execution.workbench import read_for_workers
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.signals import StopRequest
from prunepeft_ray.study import StudyExecutionConfig, StudySpec
from prunepeft_ray.tasks import TaskData
from prunepeft_ray.text import error_line
from prunepeft_ray.training import cut_line, encode_task
from prunepeft_ray.waiting import every


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
    pool: str | None = None,
) -> None:
    """Run what is left of a study on the cluster that this process has joined.

    Args:
        folder: The study's folder, which all workers can see.
        spec: The study.
        run: Its searches.
        data: Its tasks, by name.
        emit: Callback that receives events.
        watch: Callback that receives the progress.
        request: Whether a signal has requested a stop.
        part: The study's share of the cluster, one unit per job.
        unit: Resources of each worker of a job.
        pool: Folder or URL of the pool of finished jobs; None for none.

    Raises:
        PrunePEFTError: The error that ended the study.
        KeyboardInterrupt: On SIGINT, once running jobs have saved their checkpoints.
        Terminated: On SIGTERM; likewise.
    """
    # the searcher decides how many trials there are; the cluster may grow
    configure_tune(pending=10**6)
    shared = replace(share_study(folder, spec, data, start_mailbox(), emit), pool=pool)
    attempts = spec.execution.max_failures + 1
    store = ResultsStore(folder.results)
    searcher = JobSearcher(
        run,
        store,
        lambda: request.signal is not None,
        attempts,
        folder.checkpoints,
        lambda: part.units,
        emit,
    )

    def hear(event: Event) -> None:
        if event.type == "message" and event.job_id:
            searcher.said[event.job_id] = event.text
        emit(event)

    reporter = ShareReporter(part, emit)

    def look() -> None:
        part.wants(run.wanted)
        reporter.report()
        watch(run.progress())

    # on its own cluster a study has more trials than room, and the oldest must not wait forever
    scheduler = OldestFirst(searcher) if isinstance(part, WholeCluster) else NewestFirst(searcher)
    failures = Failures(folder, spec.execution.max_failures)
    try:
        while True:
            tuner = build_tuner(searcher, scheduler, shared, spec.execution, unit)
            background = BackgroundRun(tuner.fit)
            try:
                follow(background, shared.mailbox, hear, request, every(WATCH_SECONDS, look))
            finally:
                # let Tune notice that no more trials come; otherwise it would start a cluster once this one is gone
                background.join(STOP_SECONDS)
            watch(run.progress())
            if request.signal is not None:
                request.interrupt()
            if (error := _failure_of_tune(run, searcher, background)) is None:
                break
            failures.add()
            if failures.too_many:
                break
            emit(Event("lost", f"{describe_failure(error)}; {failures.reaction}"))
            searcher.requeue()
    finally:
        stop_mailbox(shared.mailbox)
    _raise_what_ended(run, searcher, background, folder)


def _failure_of_tune(run: StudyRun, searcher: JobSearcher, background: BackgroundRun) -> Exception | None:
    """Return the error of Tune, or of Ray below it, that ended the Tune run; None if there is none or it is ours."""
    ours = searcher.error is not None or run.error is not None or own_error(background.error) is not None
    return background.error if isinstance(background.error, Exception) and not ours else None


def build_tuner(
    searcher: JobSearcher,
    scheduler: OldestFirst,
    shared: SharedState,
    execution: StudyExecutionConfig,
    unit: list[dict[str, float]],
) -> Any:
    """Build the Tune run: as many trials as the searcher suggests, in actors that are reused."""
    trainable = tune.with_parameters(JobTrial, shared=shared, workers=execution.workers)
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


def share_study(folder: RunFolder, spec: StudySpec, data: dict[str, TaskData], mailbox: Any, emit: Emit) -> SharedState:
    """Load every backbone and encode every task once for all workers.

    Raises:
        PrunePEFTError: If a backbone cannot be loaded.
    """
    shared = SharedState(
        folder=str(folder.path.absolute()),
        mailbox=mailbox,
        backbones={},
        tasks={},
        settings=spec.execution,
        plugins=spec.plugins,
        training=spec.training,
    )
    for model in spec.models:
        backbone = read_for_workers(spec, model)
        shared.backbones[model] = share(backbone)
        for task in spec.tasks:
            encoded = encode_task(data[task.name], backbone, spec.training.max_length)
            if line := cut_line(encoded, backbone, spec.training.max_length):
                emit(Event("message", f"{task.name}, {model}: {line}"))
            # inside a list the reference travels instead of the data
            shared.tasks[model, task.name] = share(encoded) or [ray.put(encoded)]
    return shared


def configure_tune(pending: int) -> None:
    """Switch off what Tune stores and prints itself: results go to our store, and we show the progress.

    Args:
        pending: Maximum number of pending trials; Tune's default is one, with which idle nodes fill slowly.
    """
    os.environ.update(TUNE_SETTINGS | {"TUNE_MAX_PENDING_TRIALS_PG": str(pending)})
    use_our_actor_manager()
    # Tune ends with a list of the trials that failed, whose jobs were retried in others
    logging.getLogger(TUNE_LOGGER).setLevel(logging.CRITICAL)


def _trial_name(trial: Any) -> str:
    return f"job-{trial.trial_id}"


def _raise_what_ended(run: StudyRun, searcher: JobSearcher, background: BackgroundRun, folder: RunFolder) -> None:
    safe = how_to_resume(folder)
    if searcher.error is not None:
        raise RunError(f"{searcher.error}; {safe}")
    for error in (run.error, background.error):
        if isinstance(error, PrunePEFTError):
            raise error
        if error is not None:
            raise RunError(f"the study failed: {type(error).__name__}: {error_line(error)}; {safe}") from error
