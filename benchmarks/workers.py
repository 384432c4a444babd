"""Two processes that train a job together, against one process with one thread, and with two.

Wall-clock seconds of an epoch of the MiniLM supernet in batches of 32, as the processes measure them between barriers,
so that their start does not count.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import multiprocessing

from benchmarks.collecting import job
from benchmarks.figures import Figure, compare, show
from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import TaskConfig
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import DistributedGroup, SoloGroup, encode_task, train

EXAMPLES, BATCH, REPEATS = 256, 32, 3


def figures() -> list[Figure]:
    """Measure in turns."""
    found: dict[str, list[float]] = {"one": [], "threads": [], "two": []}
    for _ in range(REPEATS):
        found["one"].append(seconds(1, threads=1))
        found["threads"].append(seconds(1, threads=2))
        found["two"].append(seconds(2, threads=1))
    speeds = {name: [EXAMPLES / one for one in values] for name, values in found.items()}
    what = "2 workers, batch 32"
    return [
        compare(what, "1 worker", "1/s", speeds["one"], speeds["two"], 1.7, False),
        compare(what, "1 process with 2 threads", "1/s", speeds["threads"], speeds["two"], 1.0, False),
    ]


def seconds(processes: int, threads: int) -> float:
    """Seconds that an epoch takes with a number of processes and of threads in each."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, (processes, threads, folder), nprocs=processes)
        return statistics.fmean(float(file.read_text()) for file in Path(folder).glob("*.seconds"))


def work(rank: int, world: int, threads: int, folder: str) -> None:
    """Train in one of the processes."""
    torch.set_num_threads(threads)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    group = DistributedGroup() if world > 1 else SoloGroup()
    backbone = load_backbone("packaged:minilm")
    task = encode_task(load_task(TaskConfig(name="packaged:movie", train_size=EXAMPLES)), backbone, 128)
    template = job(backbone, task, ())
    recipe = template.training.model_copy(update={"batch_size": BATCH, "micro_batches": world})
    torch.distributed.barrier()
    started = time.monotonic()
    train(replace(template, training=recipe), backbone, task, group, lambda _done, _all: None)
    torch.distributed.barrier()
    (Path(folder) / f"{rank}.seconds").write_text(str(time.monotonic() - started))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    show(figures())
