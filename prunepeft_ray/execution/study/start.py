"""Starting, extending and resuming a study: check everything first, then run what is missing, here or with Ray Tune."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from prunepeft_ray.cluster.capacity import check_limits, check_room, has_gpu, job_needs, job_unit, room_for_jobs
from prunepeft_ray.cluster.session import is_joined, ray_cluster
from prunepeft_ray.cluster.sharing.claim import wait_for_share
from prunepeft_ray.cluster.sharing.terms import EQUAL_TERMS, Terms
from prunepeft_ray.errors import RunError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.placement import runs_in_process
from prunepeft_ray.execution.session import (
    attempting,
    check_unchanged,
    describe_missing,
    joining,
    local_device,
    named,
    pool_of_run,
    resolve,
    share_of_cluster,
)
from prunepeft_ray.execution.study.dispatcher import StudyRun
from prunepeft_ray.execution.study.in_process import run_in_process
from prunepeft_ray.execution.study.plan import plan_study, study_flops
from prunepeft_ray.execution.study.progress import Watch
from prunepeft_ray.execution.study.search import StudySearch
from prunepeft_ray.execution.study.setting import Setting
from prunepeft_ray.plugins import load_named_plugins, load_run_plugins
from prunepeft_ray.results import Request, ResultsStore, RunFolder
from prunepeft_ray.results.run import SPEC_FILE
from prunepeft_ray.signals import catching_signals
from prunepeft_ray.storage.paths import is_file
from prunepeft_ray.study import StudySpec
from prunepeft_ray.tasks import TaskData

WAIT_SECONDS = 0.02


def start_study(
    spec: StudySpec,
    output: Path,
    emit: Emit,
    watch: Watch,
    address: str | None = None,
    terms: Terms = EQUAL_TERMS,
    workers: int | None = None,
    pool: str | None = None,
) -> RunFolder:
    """Run a study; an existing one is resumed, and extended by what the spec adds.

    Everything that can be checked is checked before the folder is created and Ray is started.

    Args:
        spec: The study.
        output: The study's folder: a new one, or that of the same study with fewer methods, tasks, models or seeds.
        emit: Callback that receives events.
        watch: Callback that receives the progress.
        address: Ray cluster to run on; default: one on this machine.
        terms: How the study shares that cluster.
        workers: Number of jobs that run at once on this machine; a single one runs in this process. Default: chosen by
            the amount of work; on a cluster, as many as there is room for.
        pool: Folder or URL of the pool of finished jobs, or ``"off"``; default: see :func:`find_pool`.

    Raises:
        InputError: If anything in the spec is wrong, or the folder contains something else.
        RunError: If the study cannot continue; failed jobs and searches do not end it.
    """
    load_named_plugins(spec.plugins)
    pool = pool_of_run(pool, spec.plugins, address, emit)
    check_limits(job_unit(spec.execution, use_gpu=False), terms)
    if not is_file(output / SPEC_FILE):
        RunFolder.check_free(output)
        with joining(address, terms) as device:
            spec = resolve(spec, device, spec.execution.workers)
            settings, data = plan_study(spec, emit)
            folder = RunFolder.create(output, spec)
            return _run(folder, spec, settings, data, emit, watch, address, terms, workers, pool)
    folder = RunFolder.open(output)
    before = folder.study
    spec = _resolved_as(before, spec)
    spec.check_extends(before, str(output))
    settings, data = plan_study(spec, emit)
    return _run(folder, spec, settings, data, emit, watch, address, terms, workers, pool)


def resume_study(
    output: Path,
    emit: Emit,
    watch: Watch,
    address: str | None = None,
    terms: Terms = EQUAL_TERMS,
    trust_plugins: bool = False,
    workers: int | None = None,
    pool: str | None = None,
) -> RunFolder:
    """Resume an interrupted study: finished jobs are not run again, their results are replayed to the methods.

    Args:
        output: The study's folder.
        emit: Callback that receives events.
        watch: Callback that receives the progress.
        address: Ray cluster to run on; default: one on this machine.
        terms: How the study shares that cluster.
        trust_plugins: Whether to import plugins named in the folder that this user has not used on this machine.
        workers: As for :func:`start_study`; may differ from before.
        pool: As in :func:`start_study`; may differ from before.

    Raises:
        InputError: If the folder contains no study, its plugins are not trusted, or a task or model has changed.
        RunError: If the study cannot continue.
    """
    folder = RunFolder.open(output)
    spec = folder.study
    load_run_plugins(spec.plugins, output, trust_plugins)
    pool = pool_of_run(pool, spec.plugins, address, emit)
    settings, data = plan_study(spec, emit)
    return _run(folder, spec, settings, data, emit, watch, address, terms, workers, pool)


def _resolved_as(before: StudySpec, spec: StudySpec) -> StudySpec:
    """Fill in the settings that depend on the machine as they were when the study began."""
    if spec.training.micro_batches is not None:
        return spec
    training = spec.training.model_copy(update={"micro_batches": before.training.micro_batches})
    return spec.model_copy(update={"training": training})


def _run(
    folder: RunFolder,
    spec: StudySpec,
    settings: list[Setting],
    data: dict[str, TaskData],
    emit: Emit,
    watch: Watch,
    address: str | None,
    terms: Terms,
    workers: int | None,
    pool: str | None,
) -> RunFolder:
    store = ResultsStore(folder.results)
    check_unchanged(folder, _fingerprints(settings))
    told, unordered = _requests(store)
    searches = [StudySearch(setting, store, told.get(setting.context.run_id, ())) for setting in settings]
    with attempting(folder, emit):
        forget_order(store, unordered)
        if spec != folder.study:
            folder.extend(spec)
        if told:
            count = sum(map(len, told.values()))
            emit(Event("message", f"resuming {folder.path}: {count} results so far"))
        with _running(searches, emit) as run:
            # everything may be done already; then Ray need not be started
            while not run.over and not run.has_work:
                time.sleep(WAIT_SECONDS)
            if run.error is None and run.over:
                watch(run.progress())
                _check_kept(folder, store, searches)
                emit(Event("message", f"{folder.path} is finished; there is nothing to run"))
                return folder
            # auto means Ray if each job wants several workers
            splits = workers is None and spec.execution.workers > 1
            flops = partial(study_flops, settings, data)
            if not splits and runs_in_process(workers, address, local_device(), None, flops, emit):
                with catching_signals() as request:
                    run_in_process(folder, spec, run, data, emit, watch, local_device(), request, pool)
            else:
                _run_on_ray(folder, spec, run, data, emit, watch, address, terms, workers, pool)
        _check_kept(folder, store, searches)
    return folder


@contextmanager
def _running(searches: list[StudySearch], emit: Emit) -> Iterator[StudyRun]:
    run = StudyRun(searches, lambda search: emit(Event("message", search.summary)))
    try:
        yield run
    finally:
        run.close()


def _run_on_ray(
    folder: RunFolder,
    spec: StudySpec,
    run: StudyRun,
    data: dict[str, TaskData],
    emit: Emit,
    watch: Watch,
    address: str | None,
    terms: Terms,
    workers: int | None,
    pool: str | None,
) -> None:
    execution = spec.execution
    cpus = math.ceil((workers or 1) * execution.cpus * execution.workers)
    with catching_signals() as request, ray_cluster(address, cpus, exactly=workers is not None):
        # imported here because this imports Ray, which reads its settings on import
        from prunepeft_ray.execution.ray_errors import reaching_cluster
        from prunepeft_ray.execution.study.tune import run_study

        unit = job_unit(execution, has_gpu(terms))
        check_room(job_needs(unit))
        # on a cluster of our own, keep jobs queued so that an idle worker finds its next one waiting
        units = run.wanted if is_joined() else 2 * room_for_jobs(unit)
        with reaching_cluster(folder), share_of_cluster(named(terms, folder), unit, units) as share:
            emit(Event("accepted", ""))
            wait_for_share(share, emit, request)
            count = len(run.searches)
            emit(Event("message", f"running {count} search{'' if count == 1 else 'es'} on Ray Tune"))
            run_study(folder, spec, run, data, emit, watch, request, share, unit, pool)


def _check_kept(folder: RunFolder, store: ResultsStore, searches: list[StudySearch]) -> None:
    """Check that the store has everything that the searches depend on; those that lack anything start over.

    Raises:
        RunError: If anything is missing, or the row of a job is damaged.
    """
    wanted: dict[str, list[str]] = {"jobs": []}
    for search in searches:
        for table, keys in search.depends_on.items():
            wanted.setdefault(table, []).extend(keys)
    if missing := store.missing(**wanted):
        lost = {file.partition("/")[2] for file in missing}
        store.forget_searches(
            search.setting.context.run_id
            for search in searches
            if lost & {key for keys in search.depends_on.values() for key in keys}
        )
        raise RunError(describe_missing(folder, missing))
    store.read("jobs")


def forget_order(store: ResultsStore, unordered: Sequence[Request]) -> None:
    """Let searches start over from the first missing request; finished jobs are not run again."""
    store.forget_requests(request.key for request in unordered)
    store.forget_searches({request.search for request in unordered})


def _requests(store: ResultsStore) -> tuple[Mapping[str, list[Request]], list[Request]]:
    """Return the requests of each search, by its key and in order; and those that come after a missing one.

    From a missing request on, the order of a search's results is unknown.
    """
    found: dict[str, list[Request]] = {}
    unordered: list[Request] = []
    for row in store.read("requests").sort_values("position").to_dict("records"):
        request = Request(**{str(key): value for key, value in row.items()})
        before = found.setdefault(request.search, [])
        if request.position == len(before):
            before.append(request)
        else:
            unordered.append(request)
    return found, unordered


def _fingerprints(settings: list[Setting]) -> dict[str, dict[str, str]]:
    """Return the current fingerprints of a study's tasks and models, by name."""
    return {
        what: {getattr(one.context, what): getattr(one.problem.template, f"{what}_fingerprint") for one in settings}
        for what in ("task", "model")
    }
