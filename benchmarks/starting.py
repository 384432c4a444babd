"""From the command to the first training step, and to the end of a trivial search.

The peer is a script that does the same with Trainer and PEFT of Hugging Face: import, load the backbone, read the
sentences, train the first step. Wall-clock seconds of whole processes are compared.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, compare, show

REPEATS = 3
SETTINGS = (
    "task.train_size=64",
    "task.dev_size=32",
    "task.test_size=32",
    "warmup.turns=1",
    "warmup.epochs=1",
    "warmup.train_size=16",
    "pruning.rounds=1",
    "pruning.train_size=32",
    "training.epochs=1",
)
PEER = """
from benchmarks.training import trainer
from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import TaskConfig
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import encode_task
backbone = load_backbone("packaged:minilm")
data = load_task(TaskConfig(name="packaged:movie", train_size=16, dev_size=16, test_size=16))
trainer(encode_task(data, backbone, 128), {folder!r}, "random").train()
"""


def figures() -> list[Figure]:
    """Measure in turns: the peer, a search in process, a search in two workers under Ray."""
    first: dict[int, list[float]] = {1: [], 2: []}
    whole: dict[int, list[float]] = {1: [], 2: []}
    peer = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            subprocess.run([sys.executable, "-c", PEER.format(folder=folder)], check=True, capture_output=True)
            peer.append(time.monotonic() - started)
        for workers in (1, 2):
            until_first, until_end = search_seconds(workers)
            first[workers].append(until_first)
            whole[workers].append(until_end)
    return [
        compare("first step, in process", "HF Trainer, first step", "s", peer, first[1], 1.0),
        compare("first step, 2 workers under Ray", "HF Trainer, first step", "s", peer, first[2], 2.5),
        compare("trivial search, in process", "HF Trainer, first step", "s", peer, whole[1], 1.6),
    ]


def search_seconds(workers: int) -> tuple[float, float]:
    """Run a trivial search; return the seconds to the first line of a running job, and to the end."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [word for one in SETTINGS for word in ("--set", one)]
        what = ["--model", "packaged:minilm", "--task", "packaged:movie", "--budget", "1.3%"]
        command = [sys.executable, "-m", "prunepeft_ray", "search", *what, *settings]
        started = time.monotonic()
        process = subprocess.Popen(
            [*command, "--workers", str(workers), "--output", str(Path(folder) / "run")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        first = 0.0
        for line in process.stdout:
            if not first and line.startswith("warm-up"):
                first = time.monotonic() - started
        assert process.wait() == 0
        return first, time.monotonic() - started


if __name__ == "__main__":
    show(figures())
