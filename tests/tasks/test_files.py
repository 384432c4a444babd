import json
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.tasks import load_task, read_examples

ROWS = [{"text": f"word {i}", "label": "ab"[i % 2]} for i in range(40)]


def csv(rows, separator=","):
    lines = [separator.join(rows[0])] + [separator.join(str(value) for value in row.values()) for row in rows]
    return "\n".join(lines) + "\n"


def numbered(labels):
    return csv([{"text": f"word {i}", "label": label} for i, label in enumerate(labels)])


GOOD = csv(ROWS)


@pytest.fixture
def write(tmp_path):
    def write(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def load(path, **options):
    return load_task(TaskConfig(name=path, **options))


def refusal(path, **options):
    """The one line with which loading is refused."""
    with pytest.raises(InputError) as error:
        load(path, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def splits(task):
    return task.train, task.dev, task.test


# formats


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.jsonl", "d.json", "lines.json", "d.parquet", "D.CSV"])
def test_every_format_gives_the_same_task(tmp_path, name):
    path = tmp_path / name
    frame = pd.DataFrame(ROWS)
    if name.lower().endswith(".csv"):
        frame.to_csv(path, index=False)
    elif name.endswith(".tsv"):
        frame.to_csv(path, index=False, sep="\t")
    elif name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=name != "d.json")
    task = load(str(path))
    assert task.labels == ("a", "b")
    assert task.fingerprint == FINGERPRINT
    assert (task.metrics, task.metric) == (("accuracy", "f1", "matthews"), "accuracy")


FINGERPRINT = "e09a6c4549ab27fa"


def test_texts_with_quotes_line_breaks_and_a_byte_order_mark_are_read(write):
    rows = GOOD + '"says ""hi"", twice\nand more",a\nNA,b\nnull,a\n'
    task = load(write(rows.encode("utf-8-sig")))
    texts = [text for split in splits(task) for text in split.texts]
    assert {'says "hi", twice\nand more', "NA", "null"} < set(texts)


@pytest.mark.parametrize("name", ["d.json", "d.jsonl"])
def test_json_may_begin_with_a_byte_order_mark(tmp_path, name):
    path = tmp_path / name
    pd.DataFrame(ROWS).to_json(path, orient="records", lines=name == "d.jsonl")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(str(path)).fingerprint == FINGERPRINT


@pytest.mark.parametrize("pair", [("text", "text2"), ("premise", "hypothesis"), ("question", "sentence")])
def test_usual_column_names_are_found(write, pair):
    rows = [{pair[0]: f"p {i}", pair[1]: f"h {i}", "class": i % 3} for i in range(30)]
    task = load(write(csv(rows)))
    assert all(text.replace("p", "h") == text2 for text, text2 in zip(task.train.texts, task.train.texts2, strict=True))
    assert task.labels == ("0", "1", "2")


def test_named_columns_are_used(write):
    rows = [{"text": "no", "a": f"A{i}", "b": f"B{i}", "label": "no", "y": "uv"[i % 2]} for i in range(20)]
    task = load(write(csv(rows)), text="a", text2="b", label="y")
    assert task.train.texts[0].startswith("A")
    assert task.train.texts2[0].startswith("B")
    assert task.labels == ("u", "v")
    assert load(write(csv(rows)), text="a", label="y").train.texts2 is None


# splits


def test_missing_splits_are_taken_from_the_training_file(write):
    task = load(write(numbered("ab" * 100)))
    assert [len(split) for split in splits(task)] == [140, 30, 30]
    assert [split.labels.mean() for split in splits(task)] == [0.5] * 3
    texts = [text for split in splits(task) for text in split.texts]
    assert len(set(texts)) == 200


@pytest.mark.parametrize("part", ["dev", "test"])
def test_one_given_split_leaves_the_other_to_the_training_file(write, part):
    other = write("text,label\nx,a\ny,b\n", "other.csv")
    task = load(write(numbered("ab" * 100)), **{part: other})
    sizes = {"train": len(task.train), "dev": len(task.dev), "test": len(task.test)}
    assert sizes == {"train": 170, "dev": 30, "test": 30, part: 2}
    assert getattr(task, part).texts == ["x", "y"]


def test_given_splits_are_kept_as_they_are(write):
    train = write("text,label\nx,b\nx,b\ny,a\nX,a\n")
    task = load(train, dev=write("text,label\nd,b\n", "d.csv"), test=write("text,label\nt,a\n", "t.jsonl.csv"))
    assert task.train.texts == ["x", "x", "y", "X"]
    assert task.train.labels.tolist() == [1, 1, 0, 0]
    assert (task.dev.labels.tolist(), task.test.labels.tolist()) == ([1], [0])


def test_copies_are_left_out_before_splitting_and_said(write, caplog):
    with caplog.at_level(logging.WARNING):
        task = load(write(GOOD + "word 0,a\nWORD 1 ,b\n"))
    assert sum(len(split) for split in splits(task)) == 40
    assert "left out 2 of 42 rows" in caplog.text


def test_splits_follow_the_seed(write):
    path = write(GOOD)
    assert load(path, seed=1).fingerprint == load(path, seed=1).fingerprint != load(path, seed=2).fingerprint


def test_fingerprint_does_not_depend_on_the_path(write):
    assert load(write(GOOD, "a.csv")).fingerprint == load(write(GOOD, "b.csv")).fingerprint


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), min_size=12, max_size=80), st.integers(0, 99))
def test_no_text_is_ever_in_two_splits(write, pairs, seed):
    path = write("text,label\n" + "".join(f"t{number},{label}\n" for number, label in pairs))
    try:
        task = load(path, seed=seed)
    except InputError:
        return
    texts = [text for split in splits(task) for text in split.texts]
    assert len(set(texts)) == len(texts)
    assert set(np.unique(task.train.labels)) == set(range(task.num_labels))


def test_a_class_with_one_example_is_trained_on(write):
    task = load(write(GOOD + "rare,c\n"))
    assert "rare" in task.train.texts
    assert task.labels == ("a", "b", "c")


# classes or numbers


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["yes", "no"], ("no", "yes")),
        ([10, 9, 2], ("2", "9", "10")),
        (["1.0", "0.0"], ("0.0", "1.0")),
        (["1", "01"], ("01", "1")),
        (["0x1", "0x2"], ("0x1", "0x2")),
        (["1", "1.0", "10"], ("1", "1.0", "10")),
        (["NA", "null", "None"], ("NA", "None", "null")),
        (["-1", "1"], ("-1", "1")),
        (["1", "x"], ("1", "x")),
    ],
)
def test_few_different_labels_are_classes_in_sorted_order(write, labels, names):
    task = load(write(numbered(labels * 12)))
    assert task.labels == names
    assert task.train.labels.dtype == np.int64


def test_labels_of_json_may_be_truth_values(write):
    rows = [{"text": f"w {i}", "label": i % 2 == 0} for i in range(20)]
    assert load(write(json.dumps(rows), "d.json")).labels == ("False", "True")


def test_numbers_that_are_not_all_whole_are_regression(write):
    task = load(write(numbered([i / 4 for i in range(40)])))
    assert task.regression
    assert (task.labels, task.metric, task.train.labels.dtype) == ((), "pearson", np.float32)
    assert {text: label for s in splits(task) for text, label in zip(s.texts, s.labels, strict=True)}["word 9"] == 2.25


def test_many_whole_numbers_must_be_told_apart_by_the_user(write):
    path = write(numbered([i % 25 for i in range(100)]))
    message = refusal(path)
    assert "25 distinct integers" in message
    assert "task.regression=true" in message
    assert "task.regression=false" in message
    assert load(path, regression=True).regression
    assert load(path, regression=False).num_labels == 25


def test_the_config_overrides_what_labels_look_like(write):
    assert load(write(numbered([1, 2] * 20)), regression=True).regression
    assert load(write(numbered([0.5, 1.5] * 20)), regression=False).labels == ("0.5", "1.5")


def test_classes_are_the_same_ids_in_every_file(write):
    dev = write("text,label\nx,1.0\ny,0\n", "dev.csv")
    rows = [{"text": f"t {i}", "label": i % 3} for i in range(40)]
    task = load(write("\n".join(map(json.dumps, rows)), "train.jsonl"), dev=dev)
    assert task.labels == ("0", "1", "2")
    assert task.dev.labels.tolist() == [1, 0]


def test_names_with_decimals_are_not_mistaken_for_ids(write):
    dev = write("text,label\nx,1.0\ny,2.0\n", "dev.csv")
    task = load(write(numbered([1.0, 1.5, 2.0] * 12)), regression=False, dev=dev)
    assert task.labels == ("1.0", "1.5", "2.0")
    assert task.dev.labels.tolist() == [0, 2]


# wrong input: what, where, what would be right


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ["data.csv", "the file is empty"]),
        ("text,label\n", ["data.csv", "no rows"]),
        (GOOD + "one,two,a\n", ["data.csv, line 42", "3 fields, but the header has 2", "double quotes"]),
        ("text,label\n" + "one,two,a\n" * 30, ["data.csv, line 2", "3 fields, but the header has 2"]),
        (GOOD + '"open,a\nmore,b\n', ["data.csv, line 42", "quotation mark is never closed"]),
        (GOOD + "word\n", ["data.csv, line 42", "'label'"]),
        (GOOD + "\n\nword,\n", ["data.csv, line 44", "'label'"]),
        ('text,label\n"two\nlines",a\n  ,b\n', ["data.csv, line 4", "'text'"]),
        (GOOD.replace("text,", "txt,"), ["data.csv", "--text", "columns: txt, label"]),
        (GOOD.replace(",label", ",y"), ["data.csv", "--label", "columns: text, y"]),
        ("text, text,label\na,b,c\n", ["data.csv", "2 columns named 'text'"]),
        (numbered("a" * 30), ["data.csv", "'a', in all 30 rows", "at least two classes"]),
        ("text,label\nx,a\n", ["data.csv", "all 1 rows"]),
        ("text,label\nx,a\ny,b\n", ["data.csv", "2 distinct texts", "at least 10", "--dev and --test"]),
        ("text,label\n" + "same,a\nsame,b\n" * 20, ["data.csv", "40 rows have 0 distinct texts"]),
        (numbered([f"id{i}" for i in range(40)]), ["data.csv", "40 distinct values in 40 rows", "--label"]),
        (numbered([*"abcdefghijklm"]), ["data.csv", "no example left to train on"]),
        (numbered([i / 3 for i in range(30)] + ["nan"]), ["data.csv, line 32", "'nan' is not a finite number"]),
        (numbered([i / 3 for i in range(30)] + ["inf"]), ["data.csv, line 32", "'inf' is not a finite number"]),
        (numbered([i / 3 for i in range(30)] + ["five"]), ["data.csv, line 32", "'five' is not a finite number"]),
    ],
)
def test_wrong_csv_is_refused_with_its_place(write, content, expected):
    message = refusal(write(content))
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("d.txt", "a", ["d.txt", "unknown format '.txt'", ".csv", ".parquet"]),
        ("d.jsonl", '{"text": "a", "label": 1}\n\n{bad', ["d.jsonl, line 3", "not valid JSON"]),
        ("d.jsonl", '{"text": "a", "label": 1}\n[1]', ["d.jsonl, line 2", "expected a JSON object"]),
        ("d.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b"}', ["d.jsonl, line 3", "'label'"]),
        ("d.jsonl", '{"text": "a", "label": 1}\n{"text": ["b"], "label": 1}', ["d.jsonl, line 2", "list"]),
        ("d.jsonl", "\n", ["d.jsonl", "empty"]),
        ("d.json", '[{"text": "a",\n "label": }]', ["d.json, line 2", "not valid JSON"]),
        ("d.json", '{"text": "a"}', ["d.json", "expected a list of JSON objects"]),
        ("d.json", "[]", ["d.json", "no rows"]),
        ("d.json", '[{"text": "a", "label": 0}, {"text": null, "label": 1}]', ["d.json, row 2", "'text'"]),
        ("d.parquet", "garbage", ["d.parquet", "cannot be read as Parquet"]),
        ("d.tsv", "text\tlabel\na\tb\tc\td\n" + "a\tb\n", ["d.tsv", "tab", "double quotes"]),
    ],
)
def test_wrong_file_of_another_format_is_refused_with_its_place(write, name, content, expected):
    message = refusal(write(content, name))
    for part in expected:
        assert part in message


def test_missing_value_in_parquet_is_refused_with_its_row(tmp_path):
    path = tmp_path / "d.parquet"
    pd.DataFrame({"text": ["a", "b", "c"], "label": [0.5, None, 1.5]}).to_parquet(path)
    assert "d.parquet, row 2: no value in column 'label'" in refusal(str(path))


def test_missing_file_names_the_nearest(write, tmp_path):
    write(GOOD, "reviews.csv")
    assert "no such file; did you mean" in refusal(str(tmp_path / "review.csv"))
    assert refusal(str(tmp_path / "nowhere" / "x.csv")).endswith("no such file")


def test_folder_and_address_are_refused(tmp_path):
    (tmp_path / "d.csv").mkdir()
    assert "is a folder" in refusal(str(tmp_path / "d.csv"))
    assert refusal("https://example.org/d.csv").startswith("https://example.org/d.csv: only local files")


def test_wrong_column_names_the_nearest(write):
    path = write(GOOD)
    assert "no column 'labl' (task.label); did you mean 'label'? columns: text, label" in refusal(path, label="labl")
    assert "no column 'txt' (task.text); did you mean 'text'?" in refusal(path, text="txt")
    assert "(task.text2)" in refusal(path, text2="zzz")


def test_one_column_for_two_things_is_refused(write):
    path = write(GOOD)
    assert "'label' is used twice" in refusal(path, text="label", label="label")
    assert "'text' is used twice" in refusal(path, text="text", text2="text")


def test_words_where_numbers_are_wanted_are_refused(write):
    assert "line 2: label 'a' is not a finite number" in refusal(write(GOOD), regression=True)


def test_constant_numbers_are_refused(write):
    assert "all labels are 2.5" in refusal(write(numbered([2.5] * 20)))


@pytest.mark.parametrize("part", ["dev", "test"])
def test_wrong_given_split_is_refused_with_its_own_place(write, part):
    train = write(GOOD)
    wrong = {
        "text,label\n": "other.csv: the file has no rows",
        "text,label\nx,a\ny,A\n": "other.csv, line 3: label 'A'",
        "txt,label\nx,a\n": "other.csv: there is no column 'text'",
        "text,label\n,a\n": "other.csv, line 2: no value in column 'text'",
    }
    for content, expected in wrong.items():
        assert expected in refusal(train, **{part: write(content, "other.csv")})
    assert "no such file" in refusal(train, **{part: train.replace("data", "gone")})


def test_class_that_training_does_not_have_names_those_it_has(write):
    train = write(numbered(["negative", "positive"] * 10))
    message = refusal(train, dev=write("text,label\nx,positve\n", "dev.csv"))
    assert "line 2: label 'positve'" in message
    assert "did you mean 'positive'? known: negative, positive" in message
    # ids are for read_examples only: here the files would disagree in silence
    assert "label '1'" in refusal(train, dev=write("text,label\nx,1\n", "dev.csv"))


def test_the_same_file_for_two_splits_is_refused(write):
    path = write(GOOD)
    assert "task.name and task.dev" in refusal(path, dev=path)


# examples to evaluate or predict


def test_examples_are_read_with_the_classes_of_the_task(write):
    path = write("text,label\nx,b\ny,a\n")
    assert read_examples(path, None, None, "label", ("a", "b"), False).labels.tolist() == [1, 0]
    assert read_examples(path, None, None, None, ("a", "b"), False, find_label=True).labels.tolist() == [1, 0]


def test_examples_without_labels_have_none(write):
    path = write("id,text\n1,x\n2,y\n")
    unlabelled = read_examples(path, "text", None, None, ("a", "b"), False)
    assert (unlabelled.texts, unlabelled.labels.tolist()) == (["x", "y"], [-1, -1])
    numbers = read_examples(path, "text", None, None, (), True)
    assert np.isnan(numbers.labels).all()
    assert numbers.labels.dtype == np.float32
    with pytest.raises(InputError, match="give it with --label"):
        read_examples(path, "text", None, None, (), True, find_label=True)


def test_examples_may_have_class_ids_where_names_are_words(write):
    path = write("text,label\nx,1\ny,0\n")
    assert read_examples(path, None, None, "label", ("negative", "positive"), False).labels.tolist() == [1, 0]
    assert read_examples(path, None, None, "label", ("0", "1"), False).labels.tolist() == [1, 0]
    with pytest.raises(InputError, match="label '0' does not occur in training"):
        read_examples(path, None, None, "label", ("1", "2"), False)
    with pytest.raises(InputError, match="line 3: label '7'"):
        read_examples(write("text,label\nx,1\ny,7\n"), None, None, "label", ("negative", "positive"), False)


def test_examples_of_numbers_and_pairs_are_read(write):
    split = read_examples(write("a,b,y\nx,z,1.5\n"), "a", "b", "y", (), True)
    assert (split.texts, split.texts2, split.labels.tolist()) == (["x"], ["z"], [1.5])


def test_wrong_examples_are_refused_like_wrong_tasks(write):
    with pytest.raises(InputError, match=r"line 3: no value in column 'text'"):
        read_examples(write("text\nx\n  \ny\n".replace("  ", '" "')), "text", None, None, ("a",), False)
    with pytest.raises(InputError, match="no such file"):
        read_examples("gone.csv", "text", None, None, ("a",), False)
    with pytest.raises(InputError, match="line 2: label 'c' does not occur in training"):
        read_examples(write("text,label\nx,c\n"), "text", None, "label", ("a", "b"), False)
