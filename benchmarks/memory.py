"""Peak resident memory of a process that trains LoRA for an epoch, against Trainer and PEFT of Hugging Face."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.figures import Figure, compare, show

REPEATS = 3
SETUP = """
import resource, tempfile
import torch
from benchmarks import training
from prunepeft_ray.backbones import load_backbone
from prunepeft_ray.config import TaskConfig
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import encode_task
torch.set_num_threads(1)
backbone = load_backbone("packaged:minilm")
task = encode_task(load_task(TaskConfig(name="packaged:movie", train_size=256)), backbone, 128)
"""
PEAK = "\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
OURS = "training.train_once(backbone, task)"
PEER = "with tempfile.TemporaryDirectory() as folder: training.trainer(task, folder, 'random').train()"


def figures() -> list[Figure]:
    """Measure processes in turns."""
    theirs, ours = [], []
    for _ in range(REPEATS):
        theirs.append(peak(PEER))
        ours.append(peak(OURS))
    return [compare("peak memory, training LoRA", "HF Trainer, defaults", "MiB", theirs, ours, 1.0)]


def peak(code: str) -> float:
    """Peak resident memory in MiB of a process that runs some code."""
    done = subprocess.run([sys.executable, "-c", SETUP + code + PEAK], check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    show(figures())
