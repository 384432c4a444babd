"""The cost of a backbone in three workers of a node: one shared by all of them, against one for each.

The peers are transformers' ``from_pretrained`` in every worker, through ``load_backbone``, and the unchanged model in
Ray's object store (``ray.put(model)``). Both create the tokenizer at once, the shared backbone on first use.

Every worker is a fresh process that has imported what it needs and has run another model before anything is measured.
Workers load one after another, since they would only wait for the cores. Memory is the growth of the process's
proportional set size (PSS, which divides shared pages among the processes that map them) from before loading to after a
forward pass, with all three loaded. The driver also maps both the model's file and the object store, so shared pages
are divided by four in every variant.
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from prunepeft_ray.backbones import Backbone, load_backbone
from prunepeft_ray.cluster.session import ray_cluster
from prunepeft_ray.execution.shared_memory import open_shared, share

WORKERS, REPEATS = 3, 3


def main(model: str = "packaged:minilm") -> None:
    found: dict[str, list[tuple[float, float]]] = {}
    with ray_cluster(None, WORKERS):
        backbone = load_backbone(model)
        shared = share(backbone)
        variants: dict[str, tuple[Callable[[Any], Backbone], Any]] = {
            "shared": (open_shared, shared),
            "shared, tokenizer used": (open_and_ask, shared),
            "peer: from_pretrained": (load_backbone, model),
            "peer: ray.put(model)": (get, [ray.put((backbone.model, backbone.tokenizer, backbone.family))]),
        }
        for _ in track(range(REPEATS), description="rounds", transient=True):
            for name, (load, given) in variants.items():
                found.setdefault(name, []).append(measure(load, given))
    table = Table("variant", "load s", "ratio", "extra PSS MB", "ratio")
    table.title = f"one backbone for {WORKERS} workers of a node, {model}, per worker; ratios to the first"
    for name, rows in found.items():
        cells = []
        for column, digits in ((0, 3), (1, 1)):
            values = [row[column] for row in rows]
            ratios = [row[column] / base[column] for row, base in zip(rows, found["shared"], strict=True)]
            cells += [f"{statistics.median(values):.{digits}f}", f"{statistics.median(ratios):.2f}"]
        table.add_row(name, *cells)
    Console().print(table)


def measure(load: Callable[[Any], Backbone], given: Any) -> tuple[float, float]:
    """Median seconds and MB per worker."""
    workers = [ray.remote(num_cpus=0)(Worker).remote() for _ in range(WORKERS)]
    ray.get([worker.prepare.remote() for worker in workers])
    before = ray.get([worker.memory.remote() for worker in workers])
    seconds = [ray.get(worker.load.remote(load, given)) for worker in workers]
    ray.get([worker.forward.remote() for worker in workers])
    after = ray.get([worker.memory.remote() for worker in workers])
    for worker in workers:
        ray.kill(worker)
    return statistics.median(seconds), statistics.median(b - a for a, b in zip(before, after, strict=True))


class Worker:
    """A process that loads the backbone in one of these ways."""

    def prepare(self) -> None:
        from transformers import (
            AutoTokenizer,
            BertConfig,
            BertForSequenceClassification,
            LlamaForSequenceClassification,
        )

        torch.set_num_threads(1)
        self.imported = AutoTokenizer, LlamaForSequenceClassification, load_backbone, open_shared
        BertForSequenceClassification(BertConfig(num_hidden_layers=1))(torch.ones(1, 12, dtype=torch.long))

    def load(self, load: Callable[[Any], Backbone], given: Any) -> float:
        started = time.perf_counter()
        self.backbone = load(given)
        return time.perf_counter() - started

    def forward(self) -> None:
        with torch.no_grad():
            self.backbone.model(torch.arange(1000, 1020)[None])

    def memory(self) -> float:
        gc.collect()
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def open_and_ask(shared: Any) -> Backbone:
    backbone: Backbone = open_shared(shared)
    assert backbone.tokenizer
    return backbone


def get(references: Any) -> Backbone:
    return Backbone(*ray.get(references[0]), "")


if __name__ == "__main__":
    main(*sys.argv[1:])
