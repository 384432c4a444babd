"""Tasks from local CSV, TSV, JSONL, JSON and Parquet files."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.tasks.base import NO_CLASS, Indices, Labels, Split, TaskData, Tell, log_line
from prunepeft_ray.tasks.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS
from prunepeft_ray.tasks.splitting import split_examples
from prunepeft_ray.tasks.tables import AS_FOUND, SUFFIXES, FileFormat, Table, columns_text, find_column, read_table
from prunepeft_ray.text import one_line

__all__ = ["SUFFIXES", "load_files", "read_examples"]

MAX_INFERRED_CLASSES = 20

# names of columns to look for if none is given, the more specific ones first
PAIR_COLUMNS = (
    ("text", "text2"),
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
)
TEXT_COLUMNS = ("text", "sentence", "question", "review", "message", "content")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target", "score")

_SURROGATE = re.compile("[\ud800-\udfff]")
_WHOLE_FRACTION = re.compile(r"\.0+$")
_NOT_TEXT = (list, dict, tuple, bytes, np.ndarray)


@dataclass(frozen=True)
class _Columns:
    text: str
    text2: str | None
    label: str | None


@dataclass(frozen=True, eq=False)
class _Raw:
    """Checked texts of a file, with labels as written (a pandas Series), or None."""

    table: Table
    columns: _Columns
    texts: list[str]
    texts2: list[str] | None
    labels: Any


def load_files(config: TaskConfig, tell: Tell = log_line) -> TaskData:
    """Load a task from the training file ``config.name`` and optional dev and test files.

    A split without a file of its own gets 15 % of the training file, stratified and seeded by ``config.seed``;
    duplicate texts are removed first, so that no text is in two splits. Dev and test files are used unchanged, but
    their texts are removed from the training split.

    Labels are numbers to predict if most of them are numbers and not all of these are integers; otherwise they are
    classes, in sorted order. More than 20 distinct integers could be either, and ``config.regression`` must decide.

    Args:
        config: The files, their columns and format.
        tell: Callback that receives what was inferred from the files, and what was left out.

    Raises:
        InputError: If a file, a column, a text or a label is wrong; names the file and the line.
    """
    _check_distinct_files(config)
    form = FileFormat(config.encoding, config.separator)
    expected = _named_columns(config.text, config.text2, config.label)
    train_table = read_table(config.name, form, expected, tell)
    columns = _find_columns(train_table, config.text, config.text2, config.label, find_label=True)
    train = _raw(train_table, columns)
    regression = _is_regression(train, config.regression)
    names = () if regression else _class_names(train)
    files = {part: file for part, file in (("dev", config.dev), ("test", config.test)) if file is not None}
    used = _named_columns(columns.text, columns.text2, columns.label)
    given = {
        part: _split(_raw(read_table(file, form, used, tell), columns), names, regression)
        for part, file in files.items()
    }
    whole = _split(train, names, regression)
    if not names and len(np.unique(whole.labels)) < 2:
        raise InputError(f"{config.name}: all labels are {whole.labels[0]:g}; expected at least two distinct numbers")
    parts = split_examples(config, whole, given, names, tell)
    metrics = REGRESSION_METRICS if regression else CLASSIFICATION_METRICS
    return TaskData(config.name, parts["train"], parts["dev"], parts["test"], names, metrics, metrics[0])


def read_examples(
    path: str | Path,
    text: str | None,
    text2: str | None,
    label: str | None,
    labels: tuple[str, ...],
    regression: bool,
    *,
    find_label: bool = False,
    form: FileFormat = AS_FOUND,
    tell: Tell = log_line,
) -> Split:
    """Read a file of examples for an existing task, to evaluate or predict.

    Args:
        path: The file.
        text: Column of the (first) text; None looks for common names.
        text2: Column of the second text, or None.
        label: Column of the label; None leaves examples unlabelled (-1, or NaN for regression).
        labels: The task's class names. If the file has integers although the names are not numbers, the integers are
            class ids.
        regression: Whether labels are numbers to predict.
        find_label: Whether to look for a label column with a common name if ``label`` is None.
        form: The file's encoding and separator, as far as they are not to be detected.
        tell: Callback that receives what was inferred from the file.

    Raises:
        InputError: If the file, a column, a text or a label is wrong; names the file and the line.
    """
    table = read_table(path, form, _named_columns(text, text2, label), tell)
    raw = _raw(table, _find_columns(table, text, text2, label, find_label))
    if raw.labels is not None and not regression:
        raw = replace(raw, labels=_named(raw.labels, labels))
    return _split(raw, labels, regression)


def _named_columns(*columns: str | None) -> list[str]:
    return [column for column in columns if column is not None]


def _named(labels: Any, names: tuple[str, ...]) -> Any:
    """Replace labels that are class ids by class names."""
    import pandas as pd

    if not _are_whole(labels) or pd.to_numeric(pd.Series(list(names)), errors="coerce").notna().any():
        return labels
    ids = pd.Series(_numbers(labels).astype(np.int64))
    return ids.map(dict(enumerate(names))).fillna(labels)


def _check_distinct_files(config: TaskConfig) -> None:
    files: dict[Path, str] = {}
    for key, file in (("name", config.name), ("dev", config.dev), ("test", config.test)):
        if file is None:
            continue
        other = files.setdefault(Path(file).expanduser().resolve(), key)
        if other != key:
            raise InputError(
                f"{file}: the same file is given as task.{other} and task.{key}; "
                f"omit task.{key} to split it off the training file"
            )


def _find_columns(table: Table, text: str | None, text2: str | None, label: str | None, find_label: bool) -> _Columns:
    present = set(table.frame.columns)
    if text is not None:
        text = find_column(table, text, "task.text")
    else:
        text, text2 = _common_text_columns(table, text2, present - {label})
    if text2 is not None:
        text2 = find_column(table, text2, "task.text2")
    if label is not None:
        label = find_column(table, label, "task.label")
    elif find_label:
        label = next((name for name in LABEL_COLUMNS if name in present - {text, text2}), None)
        if label is None:
            raise InputError(
                f"{table.path}: cannot tell which column is the label; give it with --label; "
                f"columns: {columns_text(table)}"
            )
    used = [column for column in (text, text2, label) if column is not None]
    if len(set(used)) < len(used):
        twice = next(column for column in used if used.count(column) > 1)
        raise InputError(
            f"{table.path}: column '{twice}' is used twice; text, text2 and label must be different columns"
        )
    return _Columns(text, text2, label)


def _common_text_columns(table: Table, text2: str | None, present: set[str]) -> tuple[str, str | None]:
    if text2 is None:
        for pair in PAIR_COLUMNS:
            if present.issuperset(pair):
                return pair
    for name in TEXT_COLUMNS:
        if name in present and name != text2:
            return name, text2
    raise InputError(
        f"{table.path}: cannot tell which column is the text; give it with --text; columns: {columns_text(table)}"
    )


def _raw(table: Table, columns: _Columns) -> _Raw:
    for key, column in (("text", columns.text), ("text2", columns.text2), ("label", columns.label)):
        if column is not None:
            find_column(table, column, f"task.{key}")
            _check_values(table, column, may_be_empty=key == "text2")
    texts2 = None if columns.text2 is None else _texts(table, columns.text2)
    labels = None if columns.label is None else table.frame[columns.label]
    return _Raw(table, columns, _texts(table, columns.text), texts2, labels)


def _check_values(table: Table, column: str, may_be_empty: bool) -> None:
    values = table.frame[column]
    if values.dtype == object:
        _check_objects(table, column, values)
    missing = (values.isna() | (values.astype("str").str.strip() == "")).to_numpy(dtype=bool)
    if missing.any() and not may_be_empty:
        raise InputError(f"{table.where(int(missing.argmax()))}: no value in column '{column}'")


def _check_objects(table: Table, column: str, values: Any) -> None:
    nested = values.map(lambda value: isinstance(value, _NOT_TEXT)).to_numpy(bool)
    if nested.any():
        row = int(nested.argmax())
        kind = type(values.iloc[row]).__name__
        raise InputError(f"{table.where(row)}: column '{column}' contains a {kind}; expected text or a number")
    broken = values.map(lambda value: isinstance(value, str) and _SURROGATE.search(value)).to_numpy(bool)
    if broken.any():
        row = int(broken.argmax())
        raise InputError(f"{table.where(row)}: column '{column}' contains an incomplete character (a lone surrogate)")


def _texts(table: Table, column: str) -> list[str]:
    values = table.frame[column]
    texts: list[str] = values.astype("str").where(values.notna(), "").str.strip().tolist()
    return texts


def _numbers(labels: Any) -> Any:
    """Return labels as a float64 array; NaN where they are not numbers."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(labels.dtype):
        return np.full(len(labels), np.nan)
    if labels.dtype == object:
        labels = labels.where(~labels.map(lambda value: isinstance(value, bool)))
    return pd.to_numeric(labels, errors="coerce").to_numpy(dtype=np.float64)


def _is_regression(raw: _Raw, wanted: bool | None) -> bool:
    if wanted is not None:
        return wanted
    numbers = _numbers(raw.labels)
    finite = numbers[np.isfinite(numbers)]
    if len(finite) * 2 <= len(numbers):
        return False
    if (finite % 1 != 0).any():
        return True
    different = len(np.unique(finite))
    if len(finite) == len(numbers) and different > MAX_INFERRED_CLASSES:
        raise InputError(
            f"{raw.table.path}: column '{raw.columns.label}' has {different} distinct integers; set "
            "task.regression=true if they are quantities to predict, or task.regression=false if they are classes"
        )
    return False


def _class_names(raw: _Raw) -> tuple[str, ...]:
    import pandas as pd

    labels = _written(raw.labels)
    different = labels.unique()
    column, rows = raw.columns.label, len(labels)
    if len(different) < 2:
        raise InputError(
            f"{raw.table.path}: column '{column}' has only the label '{one_line(different[0])}', in all {rows} rows; "
            "expected at least two classes"
        )
    if len(different) > max(MAX_INFERRED_CLASSES, rows // 2):
        raise InputError(
            f"{raw.table.path}: column '{column}' has {len(different)} distinct values in {rows} rows, too many "
            "for classes; give another column with --label, or set task.regression=true for numbers"
        )
    in_order = sorted(different)
    if _are_whole(raw.labels):
        in_order = [in_order[i] for i in np.argsort(_numbers(pd.Series(in_order)), kind="stable")]
    return tuple(in_order)


def _are_whole(labels: Any) -> bool:
    numbers = _numbers(labels)
    return bool((np.isfinite(numbers) & (np.abs(numbers) < 2**53)).all() and (numbers % 1 == 0).all())


def _written(labels: Any) -> Any:
    """Return labels as written: ``01``, ``1`` and ``1.0`` differ."""
    return labels.astype("str").str.strip()


def _split(raw: _Raw, names: tuple[str, ...], regression: bool) -> Split:
    if raw.labels is None:
        unknown = np.full(len(raw.texts), np.nan if regression else NO_CLASS)
        return Split(raw.texts, raw.texts2, unknown.astype(np.float32 if regression else np.int64))
    labels: Labels = _number_labels(raw) if regression else _class_ids(raw, names)
    return Split(raw.texts, raw.texts2, labels)


def _number_labels(raw: _Raw) -> Any:
    numbers = _numbers(raw.labels).astype(np.float32)
    finite = np.isfinite(numbers)
    if not finite.all():
        row = int((~finite).argmax())
        raise InputError(
            f"{raw.table.where(row)}: label '{one_line(raw.labels.iloc[row])}' is not a finite number; "
            "correct it, or set task.regression=false if the labels are classes"
        )
    return numbers


def _class_ids(raw: _Raw, names: tuple[str, ...]) -> Indices:
    import pandas as pd

    written = _written(raw.labels)
    ids: Indices = pd.Index(list(names)).get_indexer(written).astype(np.int64)
    whole = [_WHOLE_FRACTION.sub("", name) for name in names]
    # one file may write 1 and another 1.0 for the same class, as long as no two classes differ only in this
    if (ids == -1).any() and len(set(whole)) == len(whole):
        ids = pd.Index(whole).get_indexer(written.str.replace(_WHOLE_FRACTION, "", regex=True)).astype(np.int64)
    if (ids == -1).any():
        row = int((ids == -1).argmax())
        label = one_line(written.iloc[row])
        near = difflib.get_close_matches(label, names, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        known = one_line(", ".join(names))
        raise InputError(f"{raw.table.where(row)}: label '{label}' does not occur in training; {hint}known: {known}")
    return ids
