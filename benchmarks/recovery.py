"""The cost of lost workers: MiniLM on real Ray, with workers killed repeatedly at seeded random moments.

The peer is the same search, undisturbed. Redone examples are those trained on between a job's last checkpoint and the
kill, according to the reported progress; time lost is the difference of the searches' wall-clock times, per kill.
"""

import random
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from prunepeft_ray import RunFolder, search
from prunepeft_ray.events import Event

KILLS, LEAST_SECONDS, MOST_SECONDS = 6, 4.0, 14.0
SETTINGS = (
    "task.train_size=600",
    "task.dev_size=64",
    "warmup.train_size=64",
    "warmup.turns=2",
    "training.epochs=3",
    "execution.max_failures=20",
)
INTERVALS = (60.0, 2.0)


@dataclass
class Watch:
    """Callback that receives events and kills a worker at random moments."""

    kills: int
    rng: random.Random
    killed: int = 0
    redone: int = 0
    trained: dict[str, int] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    due: float = 0.0

    def __call__(self, event: Event) -> None:
        if event.type == "start":
            self.labels[event.text] = event.job_id
            self.due = self.due or time.monotonic() + self.rng.uniform(LEAST_SECONDS, MOST_SECONDS)
        if event.type == "lost":
            self.lost = dict(self.trained)
            self.trained.clear()
            self.redone += sum(self.lost.values())
        if event.type == "progress":
            self.trained[event.job_id] = event.done
        if event.type == "end":
            self.trained.pop(event.job_id, None)
        if event.type == "message" and (found := re.match(r"(.*): goes on after ([\d,]+) examples", event.text)):
            self.redone -= int(found[2].replace(",", ""))
        if self.killed < self.kills and self.trained and time.monotonic() >= self.due:
            self.kill()

    def kill(self) -> None:
        workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(cmdline(p))]
        if workers:
            self.rng.choice(workers).kill()
            self.killed += 1
            self.due = time.monotonic() + self.rng.uniform(LEAST_SECONDS, MOST_SECONDS) + 8


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def main() -> None:
    table = Table(
        "variant",
        "kills",
        "survived",
        "wall s",
        "s lost per kill",
        "examples redone per kill",
        "same answer",
        title="lost workers, MiniLM, 2 workers",
    )
    undisturbed, seconds, examples = run(Watch(0, random.Random(0)), INTERVALS[0])
    table.add_row("peer: undisturbed", "0", "", f"{seconds:.0f}", "", f"(of {examples:,})", "")
    for interval in INTERVALS:
        watch = Watch(KILLS, random.Random(0))
        answer, took, _ = run(watch, interval)
        lost, redone = (took - seconds) / max(1, watch.killed), watch.redone / max(1, watch.killed)
        table.add_row(
            f"checkpoints every epoch and {interval:g} s",
            str(watch.killed),
            str(watch.killed),
            f"{took:.0f}",
            f"{lost:.1f}",
            f"{redone:.0f}",
            "yes" if answer == undisturbed else "NO",
        )
    Console().print(table)


def run(watch: Watch, interval: float) -> tuple[bytes, float, int]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        done: RunFolder = search(
            "packaged:minilm",
            "packaged:movie",
            "1.3%",
            output=Path(folder) / "run",
            workers=2,
            emit=watch,
            settings=(*SETTINGS, f"execution.checkpoint_seconds={interval}"),
        )
        took = time.monotonic() - started
        from prunepeft_ray import summarise

        examples = sum(phase.examples for phase in summarise(done).phases)
        return (done.path / "adapter" / "adapter_model.safetensors").read_bytes(), took, examples


if __name__ == "__main__":
    main()
