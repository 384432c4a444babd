"""Starting, extending and resuming a study: check everything first, then run what is missing under Ray Tune."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from prunepeft_ray.cluster.capacity import check_limits, check_room, has_gpu, job_needs, job_unit, room_for_jobs
from prunepeft_ray.cluster.session import is_joined, ray_cluster
from prunepeft_ray.cluster.sharing.claim import wait_for_share
from prunepeft_ray.cluster.sharing.terms import EQUAL_TERMS, Terms
from prunepeft_ray.errors import RunError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.session import (
    attempting,
    check_unchanged,
    joining,
    named,
    resolve,
    share_of_cluster,
    what_is_gone,
)
from prunepeft_ray.execution.study.dispatcher import StudyRun
from prunepeft_ray.execution.study.plan import plan_study
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
) -> RunFolder:
    """Run a study; one that is there already goes on, with what has been added to it.

    Everything that can be checked is checked before the folder is made and Ray is started.

    Args:
        spec: The study.
        output: Its folder: new, or of the same study with fewer methods, tasks, models or seeds.
        emit: Callback that receives events.
        watch: Shown the progress.
        address: Ray cluster to run on; default: one on this machine.
        terms: How it shares that cluster.

    Raises:
        InputError: If anything in the spec is wrong, or the folder holds something else.
        RunError: If the study cannot go on; failing jobs and searches do not end it.
    """
    load_named_plugins(spec.plugins)
    check_limits(job_unit(spec.execution, use_gpu=False), terms)
    if not is_file(output / SPEC_FILE):
        RunFolder.check_free(output)
        with joining(address, terms) as device:
            spec = resolve(spec, device)
            settings, data = plan_study(spec, emit)
            folder = RunFolder.create(output, spec)
            return _run(folder, spec, settings, data, emit, watch, address, terms)
    folder = RunFolder.open(output)
    before = folder.study
    spec = _resolved_as(before, spec)
    spec.check_extends(before, str(output))
    settings, data = plan_study(spec, emit)
    return _run(folder, spec, settings, data, emit, watch, address, terms)


def resume_study(
    output: Path,
    emit: Emit,
    watch: Watch,
    address: str | None = None,
    terms: Terms = EQUAL_TERMS,
    trust_plugins: bool = False,
) -> RunFolder:
    """Go on with a study where it stopped: finished jobs are told to the methods again, not run.

    Args:
        output: The study's folder.
        emit: Callback that receives events.
        watch: Shown the progress.
        address: Ray cluster to run on; default: one on this machine.
        terms: How it shares that cluster.
        trust_plugins: Whether to import plugins of the folder's spec that this user has not used on this machine.

    Raises:
        InputError: If the folder holds no study, its plugins are not trusted, or a task or model has changed since.
        RunError: If the study cannot go on.
    """
    folder = RunFolder.open(output)
    spec = folder.study
    load_run_plugins(spec.plugins, output, trust_plugins)
    settings, data = plan_study(spec, emit)
    return _run(folder, spec, settings, data, emit, watch, address, terms)


def _resolved_as(before: StudySpec, spec: StudySpec) -> StudySpec:
    """Fill in what depends on the machine as it was filled in when the study began."""
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
            emit(Event("message", f"going on with {folder.path}: {sum(map(len, told.values()))} jobs told so far"))
        with _running(searches, emit) as run:
            # all may be done; Ray is not started for nothing
            while not run.over and not run.has_work:
                time.sleep(WAIT_SECONDS)
            if run.error is None and run.over:
                watch(run.progress())
                _check_kept(folder, store, searches)
                emit(Event("message", f"{folder.path} is finished; there is nothing to run"))
                return folder
            _run_on_ray(folder, spec, run, data, emit, watch, address, terms)
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
) -> None:
    execution = spec.execution
    with catching_signals() as request, ray_cluster(address, math.ceil(execution.cpus * execution.workers)):
        # it imports Ray, which reads its settings then
        from prunepeft_ray.execution.ray_errors import reaching_cluster
        from prunepeft_ray.execution.study.tune import run_study

        unit = job_unit(execution, has_gpu(terms))
        check_room(job_needs(unit))
        # on an own cluster, a worker that falls idle finds its next job waiting
        units = run.wanted if is_joined() else 2 * room_for_jobs(unit)
        with reaching_cluster(folder), share_of_cluster(named(terms, folder), unit, units) as share:
            emit(Event("accepted", ""))
            wait_for_share(share, emit, request)
            count = len(run.searches)
            emit(Event("message", f"running {count} search{'' if count == 1 else 'es'} on Ray Tune"))
            run_study(folder, spec, run, data, emit, watch, request, share, unit)


def _check_kept(folder: RunFolder, store: ResultsStore, searches: list[StudySearch]) -> None:
    """Make sure that the store has all that the searches rest on; those of which something is gone begin again.

    Raises:
        RunError: If anything is missing, or a row of a job is damaged.
    """
    wanted: dict[str, list[str]] = {"jobs": []}
    for search in searches:
        for table, keys in search.rests_on.items():
            wanted.setdefault(table, []).extend(keys)
    if gone := store.missing(**wanted):
        lost = {file.partition("/")[2] for file in gone}
        store.forget_searches(
            search.setting.context.run_id
            for search in searches
            if lost & {key for keys in search.rests_on.values() for key in keys}
        )
        raise RunError(what_is_gone(folder, gone))
    store.read("jobs")


def forget_order(store: ResultsStore, unordered: Sequence[Request]) -> None:
    """Let searches begin again from the first request that is gone; jobs that have finished do not run again."""
    store.forget_requests(request.key for request in unordered)
    store.forget_searches({request.search for request in unordered})


def _requests(store: ResultsStore) -> tuple[Mapping[str, list[Request]], list[Request]]:
    """What each search was told so far, by its key, in that order; and requests of which earlier ones are gone.

    Without those, the order in which the search was told is not known from there on.
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
    """Those of a study's tasks and models as they are now, by their names."""
    return {
        what: {getattr(one.context, what): getattr(one.problem.template, f"{what}_fingerprint") for one in settings}
        for what in ("task", "model")
    }
