"""The nine GLUE tasks, from the Hugging Face Hub or its cache.

GLUE does not publish the labels of its test sets. The official validation set is our test split; dev is taken from the
official training set: 10 %, at most 2,000 examples. MNLI has two validation sets: the matched one is the test split,
and metrics on the mismatched one are reported in addition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import RunError
from prunepeft_ray.tasks.base import TASKS, Split, TaskData, TaskSource, pair_keys, same_words
from prunepeft_ray.tasks.splits import stratified_subset
from prunepeft_ray.text import one_line

REPOSITORY = "nyu-mll/glue"
DEV_SHARE = 0.1
DEV_MAX = 2000


@dataclass(frozen=True)
class _Columns:
    text: str
    text2: str | None = None
    validation: str = "validation"
    mismatched: str | None = None


def _load(config: TaskConfig, name: str, columns: _Columns) -> TaskData:
    data = _download(name)
    official, label = _split(data["train"], columns), data["train"].features["label"]
    dev_size = max(1, min(DEV_MAX, round(len(official) * DEV_SHARE)))
    chosen = stratified_subset(official.labels, dev_size, config.seed)
    train = official.take(np.delete(np.arange(len(official)), chosen))
    dev = _without(official.take(chosen), train)
    test = _split(data[columns.validation], columns)
    further = {} if columns.mismatched is None else {"mismatched": _split(data[columns.mismatched], columns)}
    names = tuple(getattr(label, "names", ()))
    return TaskData(config.name, train, dev, test, names, TASKS[name].metrics, TASKS[name].metric, further)


def _download(name: str) -> Any:
    """Load a task with the ``datasets`` library, which falls back to its cache if offline."""
    import datasets

    try:
        return datasets.load_dataset(REPOSITORY, name)
    except Exception as error:
        raise RunError(
            f"task '{name}': GLUE is not in the Hugging Face cache and cannot be downloaded ({one_line(error)}); "
            "run once with network access, set HF_HOME to a folder that has it, or use a packaged:<name> task "
            "or a local file"
        ) from error


def _split(data: Any, columns: _Columns) -> Split:
    labels = np.asarray(data["label"][:])
    kind = np.float32 if np.issubdtype(labels.dtype, np.floating) else np.int64
    texts2 = None if columns.text2 is None else list(data[columns.text2][:])
    return Split(list(data[columns.text][:]), texts2, labels.astype(kind))


def _without(split: Split, other: Split) -> Split:
    """Remove examples whose texts are also in the other split, since the official data contains duplicates."""
    there = pair_keys(other.texts, other.texts2, same_words)
    copies = pair_keys(split.texts, split.texts2, same_words).isin(there).to_numpy()
    return split if copies.all() else split.take(np.flatnonzero(~copies))


def _register(name: str, description: str, size: str, metrics: tuple[str, ...], columns: _Columns) -> None:
    TASKS.register(name, TaskSource(description, size, metrics, lambda config: _load(config, name, columns)))


_SENTENCE = _Columns("sentence")
_SENTENCES = _Columns("sentence1", "sentence2")
_QUESTIONS = _Columns("question1", "question2")
_PREMISE = _Columns("premise", "hypothesis", "validation_matched", "validation_mismatched")
_ANSWER = _Columns("question", "sentence")

_register("cola", "GLUE: whether a sentence is grammatical", "8.6k", ("matthews", "accuracy"), _SENTENCE)
_register("sst2", "GLUE: sentiment of movie-review phrases", "67k", ("accuracy",), _SENTENCE)
_register("mrpc", "GLUE: whether two sentences mean the same", "3.7k", ("accuracy", "f1"), _SENTENCES)
_register("qqp", "GLUE: whether two questions mean the same", "364k", ("accuracy", "f1"), _QUESTIONS)
# Pearson is primary: the head is trained on the numbers themselves, not their ranks, and papers report it
_register("stsb", "GLUE: similarity of two sentences, 0 to 5", "5.7k", ("pearson", "spearman"), _SENTENCES)
_register("mnli", "GLUE: entailment, neutral or contradiction", "393k", ("accuracy",), _PREMISE)
_register("qnli", "GLUE: whether a sentence answers a question", "105k", ("accuracy",), _ANSWER)
_register("rte", "GLUE: whether one sentence entails another", "2.5k", ("accuracy",), _SENTENCES)
_register("wnli", "GLUE: what a pronoun refers to", "635", ("accuracy",), _SENTENCES)
