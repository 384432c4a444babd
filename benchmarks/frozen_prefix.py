"""Training with the output of frozen layers kept on disk, against the same job with dropout everywhere and no cache.

The job trains LoRA and adapters in all layers from the given one up, for some epochs with evaluation. The cached
variant is measured twice: with an empty cache, which the job fills in its first epoch, and with one that an earlier job
has filled. Without a cache, the states of the frozen layers are computed example by example in every epoch.

CPU seconds of one thread are compared, so that other processes on the machine have little effect; the variants take
turns, and the ratio is the median over repeats.
"""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import collecting
from prunepeft_ray.architecture import Architecture
from prunepeft_ray.backbones import Backbone, load_backbone
from prunepeft_ray.config import TaskConfig
from prunepeft_ray.jobs import TrainJob
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import EncodedTask, PrefixCache, SoloGroup, encode_task, train

LOWEST, EPOCHS, EXAMPLES, REPEATS = (2, 3, 4), 3, 64, 3
TARGETS = {2: 1.17, 3: 1.48, 4: 2.0}
"""What a prototype reached with a filled cache, by lowest filled layer."""
PEER, NOT_KEPT, EMPTY, FULL = "peer: dropout everywhere", "no cache", "cache, empty", "cache, filled"


def main() -> None:
    torch.set_num_threads(1)
    backbone = load_backbone("packaged:minilm")
    data = load_task(TaskConfig(name="packaged:movie", train_size=EXAMPLES, dev_size=EXAMPLES // 4))
    task = encode_task(data, backbone, 128)
    table = Table("lowest layer", "variant", "CPU s", "times as fast as the peer", "target", "", title="frozen layers")
    for lowest in LOWEST:
        seconds = measure(backbone, task, lowest)
        for variant, found in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(seconds[PEER], found, strict=True))
            target = TARGETS[lowest] if variant == FULL else None
            verdict = "" if target is None else "ok" if ratio >= target else "MISS"
            median = f"{statistics.median(found):.2f}"
            table.add_row(f"{lowest} of 6", variant, median, f"{ratio:.2f}", f"{target or ''}", verdict)
    Console().print(table)


def measure(backbone: Backbone, task: EncodedTask, lowest: int) -> dict[str, list[float]]:
    """CPU seconds of every repeat, by variant."""
    seconds: dict[str, list[float]] = {variant: [] for variant in (PEER, NOT_KEPT, EMPTY, FULL)}
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            cache = PrefixCache(Path(folder), 10**9)
            for variant, found in seconds.items():
                planned = job(backbone, task, lowest, frozen_dropout=variant == PEER)
                started = time.process_time()
                kept = cache if variant in (EMPTY, FULL) else None
                train(planned, backbone, task, SoloGroup(), lambda _done, _total: None, cache=kept)
                found.append(time.process_time() - started)
    return seconds


def job(backbone: Backbone, task: EncodedTask, lowest: int, *, frozen_dropout: bool) -> TrainJob:
    whole = collecting.job(backbone, task, ())
    upper = Architecture(tuple(pair for pair in whole.architecture if pair[0].layer >= lowest))
    recipe = whole.training.model_copy(update={"epochs": EPOCHS, "frozen_dropout": frozen_dropout})
    return replace(whole, architecture=upper, training=recipe, evaluate="dev")


if __name__ == "__main__":
    main()
