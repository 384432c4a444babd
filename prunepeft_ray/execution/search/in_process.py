"""A whole search in this process, without Ray."""

from __future__ import annotations

import torch

from prunepeft_ray.backbones import read_backbone
from prunepeft_ray.events import Emit
from prunepeft_ray.execution.in_process import computing, hang_watchdog, stop_signal
from prunepeft_ray.execution.interruptions import StoppedError
from prunepeft_ray.execution.search.run import run_search
from prunepeft_ray.execution.session import open_pool
from prunepeft_ray.execution.workbench import Workbench, place
from prunepeft_ray.results import RunFolder
from prunepeft_ray.signals import StopRequest
from prunepeft_ray.tasks import TaskData
from prunepeft_ray.training import SoloGroup


def run_in_process(
    folder: RunFolder,
    data: TaskData,
    emit: Emit,
    pool: str | None,
    device: torch.device,
    request: StopRequest,
) -> None:
    """Run a search in this process, with the same result as in Ray's workers.

    Args:
        folder: The run's folder.
        data: The task.
        emit: Callback that receives events.
        pool: Folder or URL of the pool of finished jobs; None for none.
        device: Device to train on.
        request: Whether a signal has requested a stop.

    Raises:
        PrunePEFTError: The error that ended the search.
        KeyboardInterrupt: On SIGINT, once the running job has saved its checkpoint.
        Terminated: On SIGTERM; likewise.
    """
    watchdog = hang_watchdog(folder.spec.execution.hang_seconds, emit)
    with computing(device):
        # a fresh copy: the one this process may be using can have an adapter or hooks
        bench = Workbench(place(read_backbone(folder.spec.model), folder.spec.training.precision, device), data)
        try:
            stop_wanted, opened = stop_signal(request, emit), open_pool(pool, emit)
            run_search(folder.spec, folder, bench, SoloGroup(), emit, stop_wanted, watchdog, opened)
        except StoppedError:
            request.interrupt()
