from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.tasks import Split, TaskData, load_task, task_names


def split(*texts, labels=None, texts2=None):
    ids = np.array(labels if labels is not None else [0] * len(texts), dtype=np.int64)
    return Split(list(texts), texts2, ids)


@pytest.fixture
def task():
    return TaskData("t", split("a", "b", labels=[0, 1]), split("c"), split("d"), ("n", "p"), ("accuracy",), "accuracy")


def test_take_keeps_texts_and_labels_together_in_the_order_asked_for():
    whole = split("a", "b", "c", labels=[3, 4, 5], texts2=["x", "y", "z"])
    taken = whole.take([2, 0])
    assert (taken.texts, taken.texts2, taken.labels.tolist()) == (["c", "a"], ["z", "x"], [5, 3])
    assert taken.labels.dtype == np.int64
    assert len(whole.take([])) == 0


def test_split_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="as many texts as labels"):
        Split(["a"], None, np.array([1, 2]))
    with pytest.raises(ValueError, match="as many texts as labels"):
        Split(["a"], ["b", "c"], np.array([1]))


def test_task_data_cannot_be_changed(task):
    with pytest.raises(FrozenInstanceError):
        task.name = "other"


def test_regression_has_one_output_and_classification_one_per_class(task):
    assert (task.regression, task.num_labels) == (False, 2)
    numbers = replace(task, labels=())
    assert (numbers.regression, numbers.num_labels) == (True, 1)


def test_fingerprint_is_known_and_does_not_depend_on_name_or_metric(task):
    assert task.fingerprint == replace(task, name="x", metrics=("f1",), metric="f1").fingerprint
    assert len(task.fingerprint) == 16
    assert int(task.fingerprint, 16) >= 0


def test_fingerprint_changes_with_everything_else(task):
    changed = [
        replace(task, train=split("a", "b", labels=[1, 0])),
        replace(task, train=split("b", "a", labels=[0, 1])),
        replace(task, train=split("a", "b", labels=[0, 1], texts2=["", ""])),
        replace(task, train=split("a b", labels=[0])),
        replace(task, dev=task.test, test=task.dev),
        replace(task, train=task.train.take([0]), dev=split("b", "c", labels=[1, 0])),
        replace(task, labels=("p", "n")),
        replace(task, train=replace(task.train, labels=task.train.labels.astype(np.float32))),
    ]
    prints = {task.fingerprint, *(other.fingerprint for other in changed)}
    assert len(prints) == len(changed) + 1


def test_fingerprint_tells_further_test_splits(task):
    further = replace(task, further_tests={"mismatched": split("e")})
    assert further.fingerprint != task.fingerprint == "25539db568d070b3"
    assert further.tests == {"": task.test, "_mismatched": further.further_tests["mismatched"]}


@pytest.mark.parametrize(("name", "near"), [("packaged:movi", "packaged:movie"), ("sst3", "sst2")])
def test_unknown_task_names_the_nearest(name, near):
    with pytest.raises(InputError, match=f"did you mean '{near}'"):
        load_task(TaskConfig(name=name))


def test_names_are_listed_once_each():
    names = task_names()
    assert {"sst2", "packaged:trec-fine"} < set(names)
    assert len(set(names)) == len(names) == 17


def test_sizes_are_taken_per_split_and_stratified():
    task = load_task(TaskConfig(name="packaged:sms-spam", train_size=200, dev_size=50, test_size=40))
    assert [len(s) for s in (task.train, task.dev, task.test)] == [200, 50, 40]
    assert task.train.labels.mean() == pytest.approx(0.124, abs=0.005)


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_more_examples_than_there_are_is_refused(part):
    with pytest.raises(InputError, match=rf"task\.{part}_size.* the {part} split has \d+"):
        load_task(TaskConfig(name="packaged:trec", **{f"{part}_size": 9999}))


def test_metric_of_the_config_decides():
    task = load_task(TaskConfig(name="packaged:movie", metric="matthews"))
    assert task.metric == "matthews"
    with pytest.raises(InputError, match="does not suit"):
        load_task(TaskConfig(name="packaged:movie", metric="spearman"))
    with pytest.raises(InputError, match="unknown metric"):
        load_task(TaskConfig(name="packaged:movie", metric="bleu"))
