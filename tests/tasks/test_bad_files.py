"""What files of users' own may look like: wrong ones are refused in one line, odd ones are read."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.tasks import load_task

ROWS = [(f"word {i}", "ab"[i % 2]) for i in range(40)]
NAMED = {"text": "text", "label": "label"}


def table(rows, header="text,label", separator=","):
    lines = [header.replace(",", separator), *(separator.join(row) for row in rows)]
    return "\n".join(lines) + "\n"


def lines(rows):
    return "\n".join(json.dumps(dict(zip(("text", "label"), row, strict=True))) for row in rows) + "\n"


GOOD = table(ROWS)
PAIRS = table([(text, f"{text} again", label) for text, label in ROWS], "text,text2,label")
SEMICOLONS = table(ROWS, separator=";")

# file, content, settings of the task, the whole line after the file's path
BAD = [
    ("d.csv", "", {}, ": the file is empty; expected column names, then one example per line"),
    ("d.csv", "\n \n\n", {}, ": the file is empty; expected column names, then one example per line"),
    ("d.csv", b"\xef\xbb\xbf", {}, ": the file is empty; expected column names, then one example per line"),
    ("d.csv", "text,label\n", {}, ": the file has no rows; expected one example per row"),
    ("d.csv", "text,label\r\n\r\n", {}, ": the file has no rows; expected one example per row"),
    ("d.csv", "\n".join(",".join(row) for row in ROWS), NAMED,
     ": there is no column 'text' (task.text); columns: word 0, a (is this a row of data? The first line must "
     "contain the column names)"),
    ("d.csv", GOOD, {"text": "txt"},
     ": there is no column 'txt' (task.text); did you mean 'text'? columns: text, label"),
    ("d.csv", GOOD, {"text": "Text"},
     ": there is no column 'Text' (task.text); did you mean 'text'? columns: text, label"),
    ("d.csv", GOOD, {**NAMED, "text2": "x"}, ": there is no column 'x' (task.text2); columns: text, label"),
    ("d.csv", SEMICOLONS, {"label": "lable"},
     ": there is no column 'lable' (task.label); did you mean 'label'? columns: text, label"),
    ("d.csv", SEMICOLONS, {**NAMED, "separator": ","},
     ": there is no column 'text' (task.text); columns: text;label"),
    ("d.csv", GOOD + "one,two,a\n", {},
     ", line 42: 3 fields, but the header has 2; put texts that contain a comma in double quotes"),
    ("d.csv", SEMICOLONS + "one;two;a\n", {},
     ", line 42: 3 fields, but the header has 2; put texts that contain a semicolon in double quotes"),
    ("d.tsv", table([*ROWS, ("one", "two", "a")], separator="\t"), {},
     ", line 42: 3 fields, but the header has 2; put texts that contain a tab in double quotes"),
    ("d.csv", GOOD + '"two\nlines",b\nword\n', {}, ", line 44: 1 field, but the header has 2: 'label' is missing"),
    ("d.csv", PAIRS + "word,b\n", {}, ", line 42: 2 fields, but the header has 3: 'label' is missing"),
    ("d.csv", GOOD + "word,\n", {}, ", line 42: no value in column 'label'"),
    ("d.csv", GOOD + 'word,"  "\n', {}, ", line 42: no value in column 'label'"),
    ("d.csv", GOOD + ",a\n", {}, ", line 42: no value in column 'text'"),
    ("d.csv", PAIRS + ",second,a\n", {}, ", line 42: no value in column 'text'"),
    ("d.csv", GOOD + '"open,a\nmore,b\n', {},
     ", line 42: a quotation mark is never closed; double quotation marks inside a text"),
    ("d.csv", '"text,label\nx,a\n', {},
     ", line 1: a quotation mark is never closed; double quotation marks inside a text"),
    ("d.csv", table(ROWS, "text,label,text").replace("a\n", "a,x\n").replace("b\n", "b,x\n"), {},
     ": there are 2 columns named 'text' (task.text); rename all but one"),
    ("d.csv", PAIRS.replace("text2", "label"), NAMED,
     ": there are 2 columns named 'label' (task.label); rename all but one"),
    ("d.csv", GOOD + "wo\0rd,a\n", {},
     ", line 42: contains a NUL byte; expected text, or give its encoding with --encoding"),
    ("d.csv", GOOD.encode("utf-16")[:-1], {},
     ", line 41: not valid UTF-16; give its encoding with --encoding, such as utf-8, utf-16 or windows-1252"),
    ("d.csv", GOOD.encode() + "x ééé".encode() + b"\xe9,a\n", {},
     ", line 42: not valid UTF-8; save the file in that encoding"),
    ("d.csv", GOOD.encode() + b"\x81\x8d,a\n", {},
     ", line 42: not valid Windows-1252; give its encoding with --encoding, such as utf-8, utf-16 or windows-1252"),
    ("d.csv", GOOD.encode() + "é,a\n".encode("latin-1"), {"encoding": "utf-8"},
     ", line 42: not valid utf-8; give its encoding with --encoding, such as utf-8, utf-16 or windows-1252"),
    ("d.csv", gzip.compress(GOOD.encode(), mtime=0), {}, ": is compressed with gzip; decompress it first"),
    ("d.csv", b"PK\x03\x04 a workbook", {}, ": is an archive or a workbook such as .xlsx; save its table as CSV"),
    ("d.csv", b"PAR1 rows", {}, ": is a Parquet file; rename it to .parquet"),
    ("d.csv.gz", gzip.compress(GOOD.encode(), mtime=0), {}, ": is compressed; decompress it first"),
    ("d.xlsx", b"PK", {}, ": unknown format '.xlsx'; expected .csv, .tsv, .jsonl, .json, .parquet"),
    ("d.jsonl", lines(ROWS) + '{"text": "x", "label": null}\n', {}, ", line 41: no value in column 'label'"),
    ("d.jsonl", lines(ROWS) + '{"text": "x", "label": ""}\n', {}, ", line 41: no value in column 'label'"),
    ("d.jsonl", lines(ROWS) + '{"text": "x", "text": "y", "label": "a"}\n', {},
     ", line 41: not valid JSON: 'text' occurs twice in an object"),
    ("d.jsonl", lines(ROWS) + "[" * 100_000, {}, ", line 41: not valid JSON: nested too deeply"),
    ("d.jsonl", lines(ROWS) + '{"text": {"a": 1}, "label": "a"}\n', {},
     ", line 41: column 'text' contains a dict; expected text or a number"),
    ("d.jsonl", lines(ROWS) + '{"text": "half \\ud83d", "label": "a"}\n', {},
     ", line 41: column 'text' contains an incomplete character (a lone surrogate)"),
    ("d.jsonl", lines(ROWS), {"separator": ";"}, ": --separator is for CSV and TSV files; omit it"),
    ("d.json", "{", {}, ", line 1: not valid JSON: Expecting property name enclosed in double quotes"),
    ("d.json", "", {}, ": the file is empty; expected one JSON object per example"),
    ("d.parquet", "text,label\n", {"encoding": "utf-8"}, ": --encoding is for text files; omit it"),
]  # fmt: skip


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(("name", "content", "settings", "expected"), BAD)
def test_a_bad_file_is_refused_in_one_line_that_says_where_and_what(tmp_path, name, content, settings, expected):
    path = write(tmp_path, name, content)
    with pytest.raises(InputError) as error:
        load_task(TaskConfig(name=path, **settings))
    assert str(error.value) == path + expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"encoding": "klingon"},
            "unknown encoding 'klingon'; expected for example utf-8, utf-16 or windows-1252",
        ),
        ({"encoding": "rot13"}, "unknown encoding 'rot13'; expected for example utf-8, utf-16 or windows-1252"),
        ({"separator": "ab"}, "separator 'ab': expected one character such as ; or |, or the word tab"),
        ({"separator": "\n"}, "separator '': expected one character such as ; or |, or the word tab"),
    ],
)
def test_a_setting_that_no_file_could_have_is_refused(tmp_path, settings, expected):
    with pytest.raises(InputError) as error:
        load_task(TaskConfig(name=write(tmp_path, "d.csv", GOOD), **settings))
    assert str(error.value) == expected


def read(path, **settings):
    told = []
    return load_task(TaskConfig(name=path, **settings), told.append), told


def told_line(path, what, options):
    return [f"{path}: detected {what}; override with {options}"]


ENCODED = "café\u201d,a\n"


@pytest.mark.parametrize(
    ("name", "content", "what", "options"),
    [
        ("d.csv", GOOD, None, None),
        ("d.csv", GOOD.encode("utf-8-sig"), None, None),
        ("d.csv", GOOD.replace("\n", "\r\n"), None, None),
        ("d.csv", GOOD.replace("\n", "\r"), None, None),
        ("d.csv", SEMICOLONS, "separator ';'", "--separator"),
        ("d.csv", table(ROWS, separator="\t"), "separator tab", "--separator"),
        ("d.csv", table(ROWS, separator="|"), "separator '|'", "--separator"),
        ("d.tsv", GOOD, "separator ','", "--separator"),
        ("d.csv", GOOD.encode("utf-16"), "encoding UTF-16", "--encoding"),
        ("d.csv", GOOD.encode("utf-16-le"), "encoding UTF-16-LE", "--encoding"),
        ("d.csv", GOOD.encode("utf-16-be"), "encoding UTF-16-BE", "--encoding"),
        ("d.csv", GOOD.encode("utf-32"), "encoding UTF-32", "--encoding"),
        ("d.jsonl", lines(ROWS).encode("utf-16"), "encoding UTF-16", "--encoding"),
        (
            "d.csv",
            SEMICOLONS.encode("utf-16"),
            "encoding UTF-16 and separator ';'",
            "--encoding and --separator",
        ),
    ],
)
def test_encoding_and_separator_are_told_from_the_file_and_said(tmp_path, name, content, what, options):
    path = write(tmp_path, name, content)
    task, told = read(path)
    assert told == (told_line(path, what, options) if what else [])
    assert task.fingerprint == load_task(TaskConfig(name=write(tmp_path, "plain.csv", GOOD))).fingerprint


def test_windows_1252_is_told_from_the_file_unless_another_encoding_is_named(tmp_path):
    path = write(tmp_path, "d.csv", (GOOD + ENCODED).encode("windows-1252"))
    task, told = read(path)
    assert told == told_line(path, "encoding Windows-1252", "--encoding")
    assert "café\u201d" in texts_of(task)
    task, told = read(path, encoding="cp1250")
    assert (told, "café\u201d" in texts_of(task)) == ([], True)


def texts_of(task):
    return [text for split in (task.train, task.dev, task.test) for text in split.texts]


def test_a_separator_inside_of_texts_is_not_taken_for_the_one_between_columns(tmp_path):
    rows = [(f"word; {i}; a|b", label) for i, (_, label) in enumerate(ROWS)]
    assert read(write(tmp_path, "d.csv", table(rows)))[1] == []
    rows = [(f"one, two, {i}", label) for i, (_, label) in enumerate(ROWS)]
    task, told = read(write(tmp_path, "d.csv", table(rows, separator=";")), **NAMED)
    assert "separator ';'" in told[0]
    assert "one, two, 3" in texts_of(task)
    header = "id, old;text;label"
    rows = [(str(i), *row) for i, row in enumerate(ROWS)]
    content = header + table(rows, "", separator=";")
    assert "separator ';'" in read(write(tmp_path, "d.csv", content), **NAMED)[1][0]


@pytest.mark.parametrize("separator", ["|", "tab", "\\t", "\t", "~"])
def test_a_named_separator_is_used_and_not_told(tmp_path, separator):
    between = {"tab": "\t", "\\t": "\t"}.get(separator, separator)
    task, told = read(write(tmp_path, "d.csv", table(ROWS, separator=between)), separator=separator)
    assert (task.labels, told) == (("a", "b"), [])


def test_a_single_column_needs_no_separator(tmp_path):
    from prunepeft_ray.tasks import read_examples

    path = write(tmp_path, "d.csv", "text\none; two\nthree | four\n")
    assert read_examples(path, None, None, None, ("a",), False).texts == ["one; two", "three | four"]


def test_names_that_repeat_are_no_matter_where_they_are_not_meant(tmp_path):
    rows = [(text, "", label, "") for text, label in ROWS]
    assert read(write(tmp_path, "d.csv", table(rows, "text,x,label,x")))[0].labels == ("a", "b")


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl", "d.parquet"])
def test_labels_and_texts_stay_as_they_are_written_in_every_format(tmp_path, name):
    written = ["01", "1", "1.0", "NA", "null", "None", "nan", "1e3", "TRUE"]
    rows = [(f"text of {label} {i}", label) for i in range(6) for label in written]
    rows += [("NA", "1"), ("null", "NA"), ("None", "null")]
    frame = pd.DataFrame(rows, columns=["text", "label"])
    path = tmp_path / name
    if name == "d.csv":
        frame.to_csv(path, index=False)
    elif name == "d.jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    task, _ = read(str(path))
    assert sorted(task.labels) == sorted(written)
    assert {"NA", "null", "None"} <= set(texts_of(task))


def test_numbers_of_typed_columns_print_as_what_they_are(tmp_path):
    for values, names in (([1, 10, 2], ("1", "2", "10")), ([1.0, 2.0, 0.0], ("0.0", "1.0", "2.0"))):
        path = tmp_path / "d.parquet"
        pd.DataFrame({"text": [f"w {i}" for i in range(30)], "label": values * 10}).to_parquet(path)
        assert read(str(path))[0].labels == names
    rows = [{"text": f"w {i}", "label": [1, 1.0, 3][i % 3]} for i in range(30)]
    assert read(write(tmp_path, "d.jsonl", "\n".join(map(json.dumps, rows))))[0].labels == ("1", "1.0", "3")


def test_a_second_text_may_be_empty_or_null(tmp_path):
    rows = [(text, "" if i % 2 else "second", label) for i, (text, label) in enumerate(ROWS)]
    from_csv, _ = read(write(tmp_path, "d.csv", table(rows, "text,text2,label")))
    assert sorted(set(from_csv.train.texts2)) == ["", "second"]
    frame = pd.DataFrame(rows, columns=["text", "text2", "label"]).replace({"text2": {"": None}})
    frame.to_parquet(tmp_path / "d.parquet")
    assert read(str(tmp_path / "d.parquet"))[0].fingerprint == from_csv.fingerprint


def test_whole_numbers_beside_nulls_stay_whole(tmp_path):
    numbers = pd.array([1, None] * 20, dtype="Int64")
    pd.DataFrame({"text": [row[0] for row in ROWS], "text2": numbers, "label": list("ab") * 20}).to_parquet(
        tmp_path / "d.parquet"
    )
    assert set(read(str(tmp_path / "d.parquet"))[0].train.texts2) == {"1", ""}


def test_a_huge_field_is_read(tmp_path):
    huge = "word " * 100_000
    task, told = read(write(tmp_path, "d.csv", GOOD + f'"{huge}",a\n'))
    assert (huge.strip() in texts_of(task), told) == (True, [])
    assert np.isin([0, 1], task.train.labels).all()
