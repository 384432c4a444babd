import os
import subprocess
import sys

import datasets
import numpy as np
import pytest

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.tasks import TASKS, load_task

TWO = ["no", "yes"]
# text columns, class names (None: numbers), names of the validation and test splits
GLUE = {
    "cola": (["sentence"], ["unacceptable", "acceptable"]),
    "sst2": (["sentence"], ["negative", "positive"]),
    "mrpc": (["sentence1", "sentence2"], ["not_equivalent", "equivalent"]),
    "qqp": (["question1", "question2"], ["not_duplicate", "duplicate"]),
    "stsb": (["sentence1", "sentence2"], None),
    "mnli": (["premise", "hypothesis"], ["entailment", "neutral", "contradiction"]),
    "qnli": (["question", "sentence"], ["entailment", "not_entailment"]),
    "rte": (["sentence1", "sentence2"], ["entailment", "not_entailment"]),
    "wnli": (["sentence1", "sentence2"], ["not_entailment", "entailment"]),
}
METRICS = {
    "cola": ("matthews", {"matthews", "accuracy"}),
    "stsb": ("pearson", {"pearson", "spearman"}),
    "mrpc": ("accuracy", {"accuracy", "f1"}),
    "qqp": ("accuracy", {"accuracy", "f1"}),
}


def part(name, split, rows, hidden=False):
    columns, classes = GLUE[name]
    features = {column: datasets.Value("string") for column in columns}
    features["label"] = datasets.Value("float32") if classes is None else datasets.ClassLabel(names=classes)
    features["idx"] = datasets.Value("int32")
    content = {column: [f"{split} {column} {i}" for i in range(rows)] for column in columns}
    labels = [(i % 26) / 5 for i in range(rows)] if classes is None else [i % len(classes) for i in range(rows)]
    content["label"] = [-1] * rows if hidden else labels
    content["idx"] = list(range(rows))
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def glue(name, train_rows=300):
    suffixes = ["_matched", "_mismatched"] if name == "mnli" else [""]
    parts = {"train": part(name, "train", train_rows)}
    for suffix in suffixes:
        parts[f"validation{suffix}"] = part(name, f"validation{suffix}", 60)
        parts[f"test{suffix}"] = part(name, f"test{suffix}", 30, hidden=True)
    return datasets.DatasetDict(parts)


@pytest.fixture
def hub(monkeypatch):
    """Serve GLUE from memory; records what was asked for."""
    asked = []
    made = {}

    def load_dataset(path, name):
        asked.append((path, name))
        return made.get(name) or glue(name)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    load_dataset.asked, load_dataset.made = asked, made
    return load_dataset


@pytest.mark.parametrize("name", GLUE)
def test_every_task_has_its_texts_labels_and_splits(hub, name):
    task = load_task(TaskConfig(name=name))
    columns, classes = GLUE[name]
    assert hub.asked == [("nyu-mll/glue", name)]
    assert [len(split) for split in (task.train, task.dev, task.test)] == [270, 30, 60]
    assert task.labels == tuple(classes or ())
    validation = "validation_matched" if name == "mnli" else "validation"
    for split, prefix in ((task.train, "train"), (task.dev, "train"), (task.test, validation)):
        rows = [int(text.split()[-1]) for text in split.texts]
        assert split.texts == [f"{prefix} {columns[0]} {i}" for i in rows]
        second = [f"{prefix} {columns[1]} {i}" for i in rows] if len(columns) == 2 else None
        assert split.texts2 == second
        expected = [(i % 26) / 5 if classes is None else i % len(classes) for i in rows]
        np.testing.assert_allclose(split.labels, expected, rtol=1e-6)
        assert split.labels.dtype == (np.float32 if classes is None else np.int64)
    assert not set(task.train.texts) & set(task.dev.texts)


def test_mnli_has_the_mismatched_set_beside_the_matched_one(hub):
    task = load_task(TaskConfig(name="mnli"))
    (mismatched,) = task.further_tests.values()
    assert mismatched.texts[:2] == ["validation_mismatched premise 0", "validation_mismatched premise 1"]
    assert list(task.tests) == ["", "_mismatched"]
    assert all(not load_task(TaskConfig(name=name)).further_tests for name in GLUE if name != "mnli")
    small = load_task(TaskConfig(name="mnli", test_size=12))
    assert [len(split) for split in small.tests.values()] == [12, 12]


@pytest.mark.parametrize("name", GLUE)
def test_metrics_are_those_of_glue(hub, name):
    task = load_task(TaskConfig(name=name))
    assert (task.metric, set(task.metrics)) == METRICS.get(name, ("accuracy", {"accuracy"}))
    assert TASKS[name].metric == task.metric


def test_dev_is_a_tenth_with_the_proportions_of_training_and_at_most_2000(hub):
    train = part("sst2", "train", 30_000)
    skewed = train.remove_columns("label").add_column(
        "label", (np.arange(30_000) % 4 == 0).astype(np.int64), feature=train.features["label"]
    )
    hub.made["sst2"] = datasets.DatasetDict({**glue("sst2"), "train": skewed})
    task = load_task(TaskConfig(name="sst2"))
    assert (len(task.train), len(task.dev)) == (28_000, 2000)
    assert task.dev.labels.mean() == 0.25


def test_dev_follows_the_seed(hub):
    first, again, other = (load_task(TaskConfig(name="rte", seed=seed)) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint
    assert first.dev.texts != other.dev.texts
    assert first.test.texts == other.test.texts


def test_dev_has_no_text_that_training_has(hub):
    data = glue("cola")
    twice = datasets.concatenate_datasets([data["train"], data["train"].select(range(150))])
    hub.made["cola"] = datasets.DatasetDict({**data, "train": twice})
    task = load_task(TaskConfig(name="cola"))
    assert len(task.dev) > 0
    assert not set(task.train.texts) & set(task.dev.texts)


@pytest.mark.parametrize(
    ("written", "name"), [("SST-2", "sst2"), ("sts-b", "stsb"), ("STSB", "stsb"), ("MNLI", "mnli")]
)
def test_names_are_taken_however_they_are_written(hub, written, name):
    task = load_task(TaskConfig(name=written))
    assert hub.asked == [("nyu-mll/glue", name)]
    assert task.name == written


def test_name_does_not_change_the_fingerprint(hub):
    assert load_task(TaskConfig(name="sst-2")).fingerprint == load_task(TaskConfig(name="sst2")).fingerprint


def test_file_options_are_refused(hub):
    with pytest.raises(InputError, match=r"task\.dev is for local files only"):
        load_task(TaskConfig(name="rte", dev="dev.csv"))
    assert not hub.asked


def test_hub_out_of_reach_says_what_to_do_in_one_line(monkeypatch):
    def load_dataset(*_):
        raise ConnectionError("Couldn't reach 'nyu-mll/glue' on the Hub\nmany\nlines")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(RunError) as error:
        load_task(TaskConfig(name="sst2"))
    message = str(error.value)
    assert "\n" not in message
    for words in ("sst2", "network", "HF_HOME", "packaged:", "Couldn't reach"):
        assert words in message


def test_offline_mode_touches_no_network(tmp_path):
    code = """
import socket
calls = []
def refuse(*args, **kwargs):
    calls.append(args)
    raise OSError("no network in this test")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import RunError
from prunepeft_ray.tasks import load_task
try:
    load_task(TaskConfig(name="sst2"))
except RunError as error:
    print(len(calls), error)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("0 task 'sst2': GLUE is not in the Hugging Face cache")
