import numpy as np
import pytest

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.tasks import Split
from prunepeft_ray.tasks.splitting import split_examples


def examples(*texts, labels=None, texts2=None):
    ids = [i % 2 for i in range(len(texts))] if labels is None else labels
    return Split(list(texts), texts2, np.array(ids, dtype=np.int64))


WORDS = examples(*(f"word {i}" for i in range(40)))


def divided(train, dev=None, test=None):
    told = []
    given = {part: split for part, split in (("dev", dev), ("test", test)) if split is not None}
    config = TaskConfig(name="d.csv", **{part: f"{part}.csv" for part in given})
    return split_examples(config, train, given, ("a", "b"), told.append), told


def test_texts_of_the_users_own_test_are_left_out_of_training_and_said():
    parts, told = divided(WORDS, dev=examples("x"), test=examples("WORD, 3!", "y"))
    assert len(parts["train"]) == 39
    assert "word 3" not in parts["train"].texts
    assert parts["test"].texts == ["WORD, 3!", "y"]
    assert told == ["d.csv: left out 1 row of training whose text is also in test.csv"]


def test_a_split_that_is_taken_from_training_shares_nothing_with_the_given_one():
    dev = examples("word 1", "Word 2.")
    parts, told = divided(WORDS, dev=dev)
    assert {"word 1", "word 2"}.isdisjoint(parts["train"].texts + parts["test"].texts)
    assert parts["dev"] is dev
    assert told == ["d.csv: left out 2 rows of training whose text is also in dev.csv"]


def test_dev_and_test_with_texts_in_common_are_kept_and_said():
    both = examples("x", "y", "z")
    parts, told = divided(WORDS, dev=both, test=examples("X!", "y"))
    assert (len(parts["train"]), len(parts["dev"]), len(parts["test"])) == (40, 3, 2)
    assert told == ["dev.csv and test.csv have 2 texts in common; both are kept as they are"]


def test_pairs_are_in_both_files_only_if_both_texts_are():
    train = examples("p", "p", "q", texts2=["h", "i", "h"])
    parts, told = divided(train, dev=examples("P", texts2=["H."], labels=[0]), test=examples("r", texts2=["h"]))
    assert list(zip(parts["train"].texts, parts["train"].texts2, strict=True)) == [("p", "i"), ("q", "h")]
    assert "left out 1 row" in told[0]


def test_copies_that_differ_in_punctuation_or_case_only_are_left_out_before_splitting():
    copies = examples(*WORDS.texts, *(f"WORD {i}!" for i in range(10)))
    parts, told = divided(copies)
    assert sum(map(len, parts.values())) == 40
    assert told == ["d.csv: before splitting, left out 10 of 50 rows that repeat a text"]


def test_nothing_is_said_where_nothing_is_shared():
    assert divided(WORDS, dev=examples("x"), test=examples("y"))[1] == []
    assert divided(WORDS)[1] == []


def test_training_without_a_text_of_its_own_or_without_a_class_is_refused():
    with pytest.raises(InputError, match="no example is left to train on"):
        divided(examples("x", "y"), dev=examples("x"), test=examples("Y"))
    with pytest.raises(InputError, match="class 'b' has no example left to train on"):
        divided(examples("x", "y", "z", labels=[0, 1, 0]), dev=examples("y"), test=examples("w"))
