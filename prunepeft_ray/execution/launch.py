"""Starting and resuming a search: check everything first, then run it in one Ray Train worker group."""

from __future__ import annotations

import os
import queue
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from prunepeft_ray.backbones import load_backbone, load_outline
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.errors import InputError, PrunePEFTError, RunError
from prunepeft_ray.execution.events import Emit, Event
from prunepeft_ray.execution.executor import Workbench
from prunepeft_ray.execution.local_ray import check_room, ray_cluster
from prunepeft_ray.execution.search import plan_search, run_search
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.tasks import TaskData, load_task
from prunepeft_ray.training import DistributedGroup, SoloGroup, default_micro_batches
from prunepeft_ray.training.optimiser import autocast

POLL_SECONDS = 0.2
BOARD_TIMEOUT_SECONDS = 10
GROUP_TIMEOUT_SECONDS = 24 * 3600
"""How long a worker waits for others that are still at an independent job."""


def start_search(
    spec: SearchSpec, output: Path, emit: Emit, workers: int | None = None, address: str | None = None
) -> RunFolder:
    """Run a search from its beginning, in a new folder.

    Everything that can be checked is checked before the folder is made and Ray is started.

    Args:
        spec: The search.
        output: The run's folder; must not hold anything yet.
        emit: Told the news, from another thread.
        workers: Workers; default: all GPUs, or two CPU workers.
        address: Ray cluster to run on; default: one on this machine.

    Raises:
        InputError: If anything in the spec is wrong, or the folder is not free.
        RunError: If the search failed.
    """
    emit(Event("message", f"reading task {spec.task.name} and model {spec.model}"))
    data = load_task(spec.task)
    plan_search(spec, load_outline(spec.model), data).method(spec)
    autocast(spec.training.precision, _device())
    RunFolder.check_free(output)
    with _workers(workers, address, emit) as count:
        folder = RunFolder.create(output, resolve(spec))
        _fit(folder, data, emit, count)
    return folder


def resume_search(output: Path, emit: Emit, workers: int | None = None, address: str | None = None) -> RunFolder:
    """Go on with a search where it stopped; a finished one is left as it is.

    Args:
        output: The run's folder.
        emit: Told the news, from another thread.
        workers: Workers; may differ from before.
        address: Ray cluster to run on; default: one on this machine.

    Raises:
        InputError: If the folder holds no run, or its task or model has changed since.
        RunError: If the search failed.
    """
    folder = RunFolder.open(output)
    if folder.finished:
        emit(Event("message", f"{output} is finished; there is nothing to resume"))
        return folder
    data = load_task(folder.spec.task)
    _check_unchanged(folder, data)
    with _workers(workers, address, emit) as count:
        _fit(folder, data, emit, count)
    return folder


def resolve(spec: SearchSpec) -> SearchSpec:
    """Fill in the settings that depend on the machine, so that a resume elsewhere computes the same."""
    if spec.training.micro_batches is not None:
        return spec
    found = default_micro_batches(_device())
    training = spec.training.model_copy(update={"micro_batches": found})
    return spec.model_copy(update={"training": training})


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _check_unchanged(folder: RunFolder, data: TaskData) -> None:
    jobs = ResultsStore(folder.results).read("jobs")
    here = {"task": data.fingerprint, "model": load_outline(folder.spec.model).fingerprint}
    for what, fingerprint in here.items():
        if odd := sorted(set(jobs[f"{what}_fingerprint"]) - {fingerprint}):
            raise InputError(
                f"{folder.path}: the {what} has changed since this run began (it was {odd[0]}, now {fingerprint}): "
                "bring the old one back, or start a new search"
            )


@contextmanager
def _workers(wanted: int | None, address: str | None, emit: Emit) -> Iterator[int]:
    """Join or start a cluster with room for the workers; gives their number."""
    use_gpu = _device().type == "cuda"
    count = wanted or (torch.cuda.device_count() if use_gpu else min(2, os.cpu_count() or 1))
    with ray_cluster(address, count):
        check_room(count, use_gpu)
        emit(Event("message", f"starting {count} {'GPU' if use_gpu else 'CPU'} worker{'s' if count > 1 else ''}"))
        yield count


def _fit(folder: RunFolder, data: TaskData, emit: Emit, workers: int) -> None:
    import ray
    from ray.exceptions import RayError
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    board = ray.remote(num_cpus=0)(Board).remote()
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "folder": str(folder.path.resolve()),
            # inside a list the reference travels instead of the data
            "data": [ray.put(data)],
            "board": board,
        },
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=_device().type == "cuda"),
        run_config=RunConfig(name=f"train-{uuid.uuid4().hex[:8]}", storage_path=str(folder.checkpoints.resolve())),
        torch_config=TorchConfig(timeout_s=GROUP_TIMEOUT_SECONDS),
    )
    stop = threading.Event()
    reader = threading.Thread(target=_read_board, args=(board, emit, stop), daemon=True)
    reader.start()
    try:
        trainer.fit()
    except SystemExit as stopped:
        # what Ray's own handler of SIGINT ends with
        raise KeyboardInterrupt from stopped
    except (TrainingFailedError, RayError) as error:
        raise _explain(error, folder) from error
    finally:
        stop.set()
        reader.join(timeout=10)


def _explain(error: Exception, folder: RunFolder) -> PrunePEFTError:
    """Find the error of ours behind a Ray error, or say what failed and how to go on."""
    causes = list(getattr(error, "worker_failures", {}).values()) or [error]
    for cause in causes:
        if isinstance(known := getattr(cause, "cause", cause), PrunePEFTError):
            return known
    lines = [line for line in str(causes[0]).splitlines() if line.strip()]
    return RunError(
        f"a worker failed: {lines[-1].strip() if lines else type(error).__name__}; finished jobs are safe: "
        f"'prunepeft resume {folder.path}' goes on"
    )


class Board:
    """Where workers leave their news for the driver; a Ray actor."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def post(self, event: Event) -> None:
        """Leave an event."""
        self._events.put(event)

    def settle(self) -> None:
        """Return when everything that the caller posted before has arrived."""

    def take(self) -> list[Event]:
        """Take all events that were left since."""
        return [self._events.get() for _ in range(self._events.qsize())]


def _read_board(board: Any, emit: Emit, stop: threading.Event) -> None:
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    asked: Any = None
    while True:
        last_time = stop.wait(POLL_SECONDS)
        is_late = asked is not None
        if asked is None:
            asked = board.take.remote()
        try:
            events = ray.get(asked, timeout=BOARD_TIMEOUT_SECONDS)
        except GetTimeoutError:
            # a busy machine; the events that were asked for still come
            if last_time:
                return
            continue
        except RayError:
            return
        asked = None
        for event in events:
            emit(event)
        if last_time and not is_late:
            return


def _worker(config: dict[str, Any]) -> None:
    """Run the whole search on one worker of the group; all workers do the same."""
    import ray
    from ray import train
    from ray.exceptions import RayError
    from ray.train.torch import get_device

    world = train.get_context().get_world_size()
    device = get_device()
    if device.type == "cpu":
        # one thread per worker: sums come out the same whatever the number of workers and cores
        torch.set_num_threads(1)
    board = config["board"]
    folder = RunFolder.open(Path(config["folder"]))
    bench = Workbench(load_backbone(folder.spec.model, str(device)), ray.get(config["data"][0]))
    group = DistributedGroup() if world > 1 else SoloGroup()
    try:
        run_search(folder.spec, folder, bench, group, lambda event: board.post.remote(event))
    finally:
        # the last news would be lost with this process
        with suppress(RayError):
            ray.get(board.settle.remote(), timeout=BOARD_TIMEOUT_SECONDS)
