"""One Ray Train worker group that runs a whole search; import it only when Ray is configured."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
import torch
from ray import train
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import get_device

from prunepeft_ray.backbones import read_backbone
from prunepeft_ray.cluster.capacity import room_for_workers
from prunepeft_ray.cluster.nodes import may_grow
from prunepeft_ray.cluster.private_ray.train import LeanTrainer, WorkersMeet, is_startup_timeout
from prunepeft_ray.cluster.sharing.claim import Share
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.errors import InputError, PrunePEFTError, RunError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.failures import Failures
from prunepeft_ray.execution.interruptions import BrokenGroupError, StoppedError
from prunepeft_ray.execution.job_checkpoint import JobKeeper
from prunepeft_ray.execution.mailbox import TIMEOUT_SECONDS, Sender, start_mailbox, stop_mailbox
from prunepeft_ray.execution.ray_errors import (
    RAY_ERRORS,
    describe_failure,
    how_to_resume,
    is_memory_loss,
    is_worker_loss,
    own_error,
)
from prunepeft_ray.execution.rendezvous import join_group, listen_on_node
from prunepeft_ray.execution.search.resizing import Resizing
from prunepeft_ray.execution.search.run import run_search
from prunepeft_ray.execution.session import open_pool
from prunepeft_ray.execution.shared_memory import Shared, open_shared, share
from prunepeft_ray.execution.supervise import POLL_SECONDS, BackgroundRun, follow, nowhere
from prunepeft_ray.execution.watchdog import Watchdog
from prunepeft_ray.execution.workbench import Workbench, place, read_for_workers
from prunepeft_ray.plugins import load_plugins
from prunepeft_ray.results import RunFolder
from prunepeft_ray.signals import StopRequest
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.tasks import TaskData
from prunepeft_ray.training import EncodedTask, Group, SoloGroup
from prunepeft_ray.waiting import poll

GROUP_TIMEOUT = timedelta(hours=24)
"""How long a worker waits for others that are still running an independent job."""


PAUSE_SECONDS = 5.0
"""Pause before a second restart in a row, doubled with each further one: Ray takes seconds to notice a dead node."""


def run_in_group(
    folder: RunFolder,
    data: TaskData,
    emit: Emit,
    part: Share,
    use_gpu: bool,
    request: StopRequest,
    look: Callable[[], None],
    pool: str | None = None,
) -> None:
    """Run a search in a worker group that is restarted when a worker is lost, with fewer workers if a node is gone.

    Every failure of Ray is handled in the same way: it is counted and reported, and the group is restarted. A group is
    also restarted when its share of the cluster grows or shrinks.

    Args:
        folder: The run's folder, which all workers can see.
        data: The task.
        emit: Callback that receives events.
        part: The search's share of the cluster, one unit per worker.
        use_gpu: Whether workers have GPUs.
        request: Whether a signal has requested a stop.
        look: Called several times a second.
        pool: Folder or URL of the pool of finished jobs; None for none.

    Raises:
        PrunePEFTError: The error that ended the search.
        KeyboardInterrupt: On SIGINT, once running jobs have saved their checkpoints.
        Terminated: On SIGTERM; likewise.
    """
    # Ray passes its settings to the controller of the workers when a group starts
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(folder.spec.execution.hang_seconds)
    failures, workers = Failures(folder, folder.spec.execution.max_failures), max(1, part.units)
    shared: _SharedState | None = None
    try:
        while True:
            if request.signal is not None:
                request.interrupt()
            try:
                room, resizing = room_for_workers(use_gpu), Resizing(part, workers)
                shared = shared or _prepare_shared(folder, data, pool)
                if not _run_once(shared, emit, workers, use_gpu, request, look, resizing.due) or folder.finished:
                    return
                ray.get(shared.mailbox.reset.remote(), timeout=TIMEOUT_SECONDS)
                workers = _workers_now(workers, max(1, part.units), room_for_workers(use_gpu) - room, emit)
            except RAY_ERRORS as error:
                if not (waited := is_startup_timeout(error)):
                    _count(error, failures, folder, shared, emit)
                    _pause(failures.count, request, look)
                    if shared is not None and not is_worker_loss(error):
                        # the shared objects themselves may be lost
                        stop_mailbox(shared.mailbox)
                        shared = None
                room = _room_left(use_gpu, folder, error)
                workers = _workers_left(max(1, min(workers, part.units)), max(1, room), use_gpu, emit, waited)
    finally:
        if shared is not None:
            stop_mailbox(shared.mailbox)


@dataclass(frozen=True)
class _SharedState:
    """What the workers of a search share.

    Args:
        mailbox: Actor handle of the mailbox.
        config: Configuration passed to each worker.
    """

    mailbox: Any
    config: dict[str, Any]


def _prepare_shared(folder: RunFolder, data: TaskData, pool: str | None) -> _SharedState:
    mailbox = start_mailbox()
    bench = share_bench(folder.spec, data)
    config = {"folder": str(folder.path.absolute()), "bench": bench, "mailbox": mailbox, "pool": pool}
    return _SharedState(mailbox, config)


def _run_once(
    shared: _SharedState,
    emit: Emit,
    workers: int,
    use_gpu: bool,
    request: StopRequest,
    look: Callable[[], None],
    must_leave: Callable[[], bool],
) -> bool:
    """Run a worker group; returns whether it was asked to make way for one of another size.

    Raises:
        Exception: An error of ours, or one of Ray that a retry may fix.
    """
    mailbox = shared.mailbox
    trainer = LeanTrainer(
        _worker,
        train_loop_config=shared.config,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=f"train-{uuid.uuid4().hex[:8]}",
            storage_path="ray",
            storage_filesystem=nowhere(),
            # Ray would count failures during the start of a group separately from later ones
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
        ),
        torch_config=WorkersMeet(),
    )
    background = BackgroundRun(lambda: trainer.fit().return_value)
    left = follow(background, mailbox, emit, request, look, must_leave)
    error = background.error
    # workers that were asked to stop may be killed, which Ray reports as a failure
    if isinstance(error, RAY_ERRORS):
        if (verdict := own_error(error) or _verdict(mailbox)) is not None:
            raise verdict
        error = None if left else error
    if error is not None:
        raise error
    if isinstance(background.result, PrunePEFTError):
        raise background.result
    return left


def _count(error: Exception, failures: Failures, folder: RunFolder, shared: _SharedState | None, emit: Emit) -> None:
    """Count and report a failure of Ray.

    Raises:
        RunError: If there were too many without progress in between.
    """
    failures.add()
    what = describe_failure(error)
    if failures.too_many:
        raise RunError(f"{what}; {how_to_resume(folder)}") from error
    emit(Event("lost", f"{what}; {failures.reaction}"))
    if shared is not None:
        lost = getattr(error, "worker_failures", {}).values()
        shared.mailbox.lose.remote(any(is_memory_loss(one) for one in lost))


def _pause(failures: int, request: StopRequest, look: Callable[[], None]) -> None:
    """Wait before any but the first restart in a row, or until a signal is received."""

    def is_asked_to_stop() -> bool:
        look()
        return request.signal is not None

    poll(is_asked_to_stop, PAUSE_SECONDS * 2 ** (failures - 2) if failures > 1 else 0, POLL_SECONDS)


def _room_left(use_gpu: bool, folder: RunFolder, error: Exception) -> int:
    """Return how many workers the cluster can hold now.

    Raises:
        RunError: If it can hold none and will not grow.
    """
    room = room_for_workers(use_gpu)
    # a node that was just lost may come back while the group waits for it
    if room < 1 and is_startup_timeout(error) and not may_grow():
        raise RunError(f"{describe_failure(error)}; {how_to_resume(folder)}") from error
    return room


def share_bench(spec: SearchSpec, data: TaskData) -> Shared | list[Any]:
    """Load the backbone and encode the task once for all workers; share only the task if that is too large.

    Raises:
        PrunePEFTError: If the backbone cannot be loaded.
    """
    bench = Workbench(read_for_workers(spec, spec.model), data)
    encoded = bench.task(spec.training.max_length)
    # inside a list the reference travels instead of the data
    return share(bench) or [ray.put(encoded)]


def open_bench(handle: Shared | list[Any], spec: SearchSpec, device: torch.device) -> Workbench:
    """Open in a worker what :func:`share_bench` returned.

    Raises:
        PrunePEFTError: If the backbone was too large to share, and cannot be loaded here.
    """
    if not isinstance(handle, Shared):
        encoded: EncodedTask = ray.get(handle[0])
        bench = Workbench(read_backbone(spec.model), encoded.data, {spec.training.max_length: encoded})
    else:
        bench = open_shared(handle)
    place(bench.backbone, spec.training.precision, device)
    return bench


def _verdict(mailbox: Any) -> PrunePEFTError | None:
    """Return the error that a worker has posted, if any."""
    with suppress(RayError):
        verdict = ray.get(mailbox.verdict.remote(), timeout=TIMEOUT_SECONDS)
        return verdict if isinstance(verdict, PrunePEFTError) else None
    return None


def _workers_now(before: int, workers: int, joined: int, emit: Emit) -> int:
    """Report with how many workers a search continues after its share has changed, and why.

    Args:
        before: Previous number of workers.
        workers: New number of workers.
        joined: How many more workers the cluster has room for than before.
        emit: Callback that receives events.
    """
    if workers < before:
        why = "others need their share" if joined >= 0 else "the cluster has become smaller"
    else:
        why = "a node has joined" if joined > 0 else "others need less"
    emit(Event("message", f"continuing with {workers} worker{'s' if workers > 1 else ''}: {why}"))
    return workers


def _workers_left(workers: int, room: int, use_gpu: bool, emit: Emit, waited: bool) -> int:
    """Report with how many workers the search continues: as many as before if the cluster is only busy, else fewer."""
    kind = "GPU" if use_gpu else "CPU"
    if room >= workers and not waited:
        return workers
    if room >= workers:
        emit(Event("waiting", f"still waiting for {workers} free {kind}{'s' if workers > 1 else ''} on the cluster"))
        return workers
    emit(Event("message", f"the cluster has only {room} {kind}{'s' if room > 1 else ''} left: continuing with {room}"))
    return room


def _worker(config: dict[str, Any]) -> PrunePEFTError | None:
    """Run the whole search in one worker; all workers of the group do the same.

    Returns:
        The error that ended the search in all of them.
    """
    rank, group = train.get_context().get_world_rank(), _meet()
    sender, mailbox = Sender(config["mailbox"]), config["mailbox"]
    # an error, or a request to stop, from before this worker started
    if (verdict := ray.get(mailbox.join.remote(ray.get_runtime_context().current_actor))) is not None:
        return verdict if isinstance(verdict, PrunePEFTError) else None
    try:
        return _work(config, sender, group, rank)
    except StoppedError:
        # an error would end the others before they have saved their checkpoints
        return None
    except BrokenGroupError as broken:
        if broken.error is not None:
            ray.get(mailbox.fail.remote(broken.error))
        raise
    finally:
        sender.settle()


def _meet() -> Group:
    """Form a group with the other workers, if there are any."""
    rank, world = train.get_context().get_world_rank(), train.get_context().get_world_size()
    if world == 1:
        return SoloGroup()
    listener = listen_on_node() if rank == 0 else None
    address = broadcast_from_rank_zero(listener.getsockname()[:2] if listener else None)
    return join_group(rank, world, address, listener, GROUP_TIMEOUT)


def _work(config: dict[str, Any], sender: Sender, group: Group, rank: int) -> PrunePEFTError | None:
    device = get_device()
    if device.type == "cpu":
        # one thread per worker, so that sums do not depend on the number of workers and cores
        torch.set_num_threads(1)
    ready = _prepare(config, device)
    # a worker that cannot begin takes the others with it
    if errors := [found for found in group.gather(ready if isinstance(ready, PrunePEFTError) else None) if found]:
        return errors[0]
    assert not isinstance(ready, PrunePEFTError)
    folder, bench = ready
    for job_id in ray.get(config["mailbox"].short_of_memory.remote()):
        JobKeeper(job_id, folder.checkpoints, 1.0, sender.stop_wanted, _ignore).note_split()
    watchdog = Watchdog(folder.spec.execution.hang_seconds, lambda: _end_hung_worker(sender, rank, folder))
    try:
        pool = open_pool(config["pool"], sender.emit)
        run_search(folder.spec, folder, bench, group, sender.emit, sender.stop_wanted, watchdog, pool)
    except PrunePEFTError as error:
        return error
    return None


def _prepare(config: dict[str, Any], device: torch.device) -> tuple[RunFolder, Workbench] | PrunePEFTError:
    try:
        folder = RunFolder.open(open_path(config["folder"]))
    except InputError:
        return InputError(
            f"{config['folder']} is not visible to the worker on {socket.gethostname()}: set --output to a folder that "
            "all nodes of the cluster share, or a bucket such as s3://bucket/run"
        )
    try:
        load_plugins(folder.spec.plugins)
        return folder, open_bench(config["bench"], folder.spec, device)
    except PrunePEFTError as error:
        return error


def _end_hung_worker(sender: Sender, rank: int, folder: RunFolder) -> None:
    seconds = folder.spec.execution.hang_seconds
    sender.emit(Event("lost", f"worker {rank} has made no step for {seconds:g} s and is killed"))
    sender.settle()
    os._exit(1)


def _ignore(_text: str) -> None:
    pass
