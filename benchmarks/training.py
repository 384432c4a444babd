"""Training and evaluating with LoRA on all layers, against Trainer and PEFT of Hugging Face.

Both train the same modules on the same sentences in batches of 16, in fp32, in one thread. The peers are Trainer as it
comes, which pads random batches, and Trainer that groups sentences of about the same length, as we do. CPU seconds are
compared.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.collecting import job
from benchmarks.figures import Figure, compare, in_turns, show
from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.backbones import Backbone, load_backbone, read_backbone
from prunepeft_ray.config import TaskConfig
from prunepeft_ray.tasks import load_task
from prunepeft_ray.training import EncodedTask, SoloGroup, encode_task, train
from prunepeft_ray.training.evaluation import predict_logits

EXAMPLES, RANK, BATCH, REPEATS = 256, 32, 16, 5


def figures() -> list[Figure]:
    """Measure one epoch of training, and an evaluation."""
    torch.set_num_threads(1)
    backbone = load_backbone("packaged:minilm")
    task = encode_task(
        load_task(TaskConfig(name="packaged:movie", train_size=EXAMPLES, dev_size=EXAMPLES)), backbone, 128
    )
    with tempfile.TemporaryDirectory() as folder:
        peers = {name: partial(trainer, task, folder, name) for name in ("random", "group_by_length")}
        trained = in_turns(
            {name: lambda make=make: make().train() for name, make in peers.items()}
            | {"ours": lambda: train_once(backbone, task)},
            time.process_time,
            REPEATS,
        )
        peer = trainer(task, folder, "random")
        evaluated = in_turns(
            {"peer": lambda: peer.evaluate(), "ours": lambda: evaluate_once(backbone, task)}, time.process_time, REPEATS
        )
    # speed: how many times as fast
    names = {"random": ("HF Trainer, defaults", 1.7), "group_by_length": ("HF Trainer, grouped by length", 1.25)}
    found = [
        compare("training, LoRA, batch 16", peer, "1/s", rates(trained[name]), rates(trained["ours"]), target, False)
        for name, (peer, target) in names.items()
    ]
    speeds = rates(evaluated["peer"]), rates(evaluated["ours"])
    return [*found, compare("evaluation, batch 64", "HF Trainer.evaluate", "1/s", *speeds, 1.0, False)]


def rates(seconds: list[float]) -> list[float]:
    """Examples per second."""
    return [EXAMPLES / one for one in seconds]


def train_once(backbone: Backbone, task: EncodedTask) -> None:
    """Train an epoch as a job does."""
    lora = Architecture.of({Slot(layer, "PA"): Module("lora", RANK) for layer in range(backbone.layers)})
    template = job(backbone, task, ())
    recipe = template.training.model_copy(update={"batch_size": BATCH, "micro_batches": 1})
    train(replace(template, architecture=lora, training=recipe), backbone, task, SoloGroup(), lambda _done, _all: None)


def evaluate_once(backbone: Backbone, task: EncodedTask) -> None:
    """Predict the dev split as a job does."""
    predict_logits(backbone.model, task.dev, 2, 64, "fp32", SoloGroup(), lambda: None)


def trainer(task: EncodedTask, folder: str, sampling: str) -> Any:
    """A Trainer with LoRA on query and value of every layer; sentences are tokenised before."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    backbone = read_backbone("packaged:minilm")
    config = LoraConfig(
        task_type="SEQ_CLS", r=RANK, lora_alpha=RANK, lora_dropout=0.1, target_modules=["query", "value"]
    )
    splits = {
        name: Dataset.from_dict(
            {**backbone.tokenizer(split.texts, truncation=True, max_length=128), "labels": split.labels.tolist()}
        )
        for name, split in (("train", task.data.train), ("dev", task.data.dev))
    }
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=64,
        learning_rate=5e-4,
        train_sampling_strategy=sampling,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    return Trainer(
        model=get_peft_model(backbone.model, config),
        args=arguments,
        train_dataset=splits["train"],
        eval_dataset=splits["dev"],
        data_collator=DataCollatorWithPadding(backbone.tokenizer),
    )


if __name__ == "__main__":
    show(figures())
