"""The cost of collecting the criteria, against the same training pass without them.

The peer works like the paper's released code: a hook on every module of the network copies its output to the host, and
every gradient is copied to the host at each step.

CPU seconds of one thread are compared, so that other processes on the machine have little effect; the variants take
turns, and the ratio is the median over repeats.
"""

import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, compare, in_turns
from prunepeft_ray.backbones import Backbone, load_backbone
from prunepeft_ray.config import PAPER_CRITERIA, ModulesConfig, SpaceConfig, TaskConfig, TrainingConfig
from prunepeft_ray.jobs import TrainJob
from prunepeft_ray.modules import build_space
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import EncodedTask, SoloGroup, encode_task, train

EXAMPLES, REPEATS = 160, 5


def figures() -> list[Figure]:
    """Measure against training without criteria, and against the released code's way."""
    seconds = measure()
    ours, what = seconds["six criteria of the paper"], "collecting six criteria, an epoch"
    return [
        compare(what, "the same without criteria", "s", seconds["no criteria"], ours, 1.05),
        compare(what, "hooks and copies of the released code", "s", seconds["peer: released code's way"], ours, 1.0),
    ]


def measure() -> dict[str, list[float]]:
    """CPU seconds of every variant, in turns."""
    torch.set_num_threads(1)
    backbone = load_backbone("packaged:minilm")
    data = load_task(TaskConfig(name="packaged:movie", train_size=EXAMPLES))
    task = encode_task(data, backbone, 128)
    variants: dict[str, Callable[[], None]] = {
        "no criteria": lambda: run(backbone, task, ()),
        "six criteria of the paper": lambda: run(backbone, task, PAPER_CRITERIA),
        "six criteria and gate": lambda: run(backbone, task, (*PAPER_CRITERIA, "gate")),
        "peer: released code's way": lambda: run_as_released(backbone, task),
    }
    return in_turns(variants, time.process_time, REPEATS)


def main() -> None:
    seconds = measure()
    table = Table("variant", "CPU s", "ratio to no criteria", title="collecting criteria, MiniLM supernet, one epoch")
    base = seconds["no criteria"]
    for name, found in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(found, base, strict=True))
        table.add_row(name, f"{statistics.median(found):.2f}", f"{ratio:.3f}")
    Console().print(table)


def job(backbone: Backbone, task: EncodedTask, collect: tuple[str, ...]) -> TrainJob:
    return TrainJob(
        model="packaged:minilm",
        model_fingerprint=backbone.fingerprint,
        task="packaged:movie",
        task_fingerprint=task.data.fingerprint,
        metric=task.data.metric,
        architecture=build_space(SpaceConfig(), backbone).supernet,
        modules=ModulesConfig(),
        training=TrainingConfig(epochs=1),
        seed=0,
        evaluate="none",
        collect=collect,
    )


def run(backbone: Backbone, task: EncodedTask, collect: tuple[str, ...]) -> None:
    train(job(backbone, task, collect), backbone, task, SoloGroup(), lambda _done, _total: None)


def run_as_released(backbone: Backbone, task: EncodedTask) -> None:
    outputs: dict[str, torch.Tensor] = {}
    sums: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                outputs[name] = output.detach().cpu().clone()

        return hook

    def copy_gradients(_done: int, _total: int) -> None:
        for name, parameter in backbone.model.named_parameters():
            if parameter.grad is not None:
                gradient = parameter.grad.detach().cpu().clone()
                sums[name] = sums[name] + gradient if name in sums else gradient

    handles = [module.register_forward_hook(keep(name)) for name, module in backbone.model.named_modules()]
    try:
        train(job(backbone, task, ()), backbone, task, SoloGroup(), copy_gradients)
    finally:
        for handle in handles:
            handle.remove()


if __name__ == "__main__":
    main()
