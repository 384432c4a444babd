"""Local files read as tables, whose rows know their position in the file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunepeft_ray.errors import InputError
from prunepeft_ray.tasks.base import Tell, log_line
from prunepeft_ray.tasks.decoding import UTF8, read_text
from prunepeft_ray.tasks.delimited import find_separator, parse_separator, read_records, separator_name
from prunepeft_ray.text import one_line

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst")


@dataclass(frozen=True)
class FileFormat:
    """How to read a text file.

    Attributes:
        encoding: Name of the encoding; None to detect it.
        separator: The character between columns of a CSV or TSV file, or ``tab``; None to detect it.
    """

    encoding: str | None = None
    separator: str | None = None


AS_FOUND = FileFormat()
"""Everything is detected from the file."""


@dataclass(frozen=True, eq=False)
class Table:
    """A file's content.

    Attributes:
        path: The file.
        frame: A pandas DataFrame with at least one row, string column names, and rows numbered from 0. Values from CSV
            and TSV are strings. Column names may repeat.
        lines: The 1-based line on which each row begins; None if the format has no lines.
    """

    path: Path
    frame: Any
    lines: Sequence[int] | None

    def where(self, row: int) -> str:
        """Return the file and the line on which a row begins, as shown by an editor, or the row's number."""
        return f"{self.path}, row {row + 1}" if self.lines is None else f"{self.path}, line {self.lines[row]}"


def read_table(
    path: str | Path, form: FileFormat = AS_FOUND, columns: Collection[str] = (), tell: Tell = log_line
) -> Table:
    """Read a CSV, TSV, JSONL, JSON (a list of objects) or Parquet file.

    Args:
        path: The file.
        form: Its encoding and separator, as far as they are not to be detected.
        columns: Names of expected columns, which help to detect the separator; may be empty.
        tell: Callback that receives the detected encoding and separator, unless they are UTF-8 and the usual one.

    Raises:
        InputError: If there is no such file, its suffix is not one of ``SUFFIXES``, its content is malformed, or it has
            no rows.
    """
    if "://" in str(path):
        raise InputError(f"{path}: only local files can be read; download it first")
    file = Path(path).expanduser()
    _check_path(file)
    suffix = file.suffix.lower()
    if form.separator is not None and suffix not in _SEPARATORS:
        raise InputError(f"{file}: --separator is for CSV and TSV files; omit it")
    if suffix in _SEPARATORS:
        return _read_delimited(file, _SEPARATORS[suffix], form, columns, tell)
    if suffix != ".parquet":
        return _read_json(file, suffix == ".jsonl", form, tell)
    if form.encoding is not None:
        raise InputError(f"{file}: --encoding is for text files; omit it")
    return _table(file, _read_parquet(file), None)


def _table(file: Path, frame: Any, lines: Sequence[int] | None) -> Table:
    if not len(frame):
        raise InputError(f"{file}: the file has no rows; expected one example per row")
    return Table(file, frame.set_axis([str(column).strip() for column in frame.columns], axis=1), lines)


def find_column(table: Table, name: str, key: str) -> str:
    """Check that a column exists.

    Args:
        table: The table.
        name: The column, as the user wrote it.
        key: The setting that names it, such as ``"task.text"``.

    Raises:
        InputError: If there is no such column (names the closest match and all columns), or if there are several.
    """
    found = list(table.frame.columns).count(name)
    if found > 1:
        raise InputError(f"{table.path}: there are {found} columns named '{name}' ({key}); rename all but one")
    if found:
        return name
    near = difflib.get_close_matches(name, table.frame.columns, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise InputError(f"{table.path}: there is no column '{name}' ({key}); {hint}columns: {columns_text(table)}")


def columns_text(table: Table) -> str:
    """Return a table's columns for an error message, with a hint if they look like a row of data."""
    names = one_line(", ".join(table.frame.columns))
    repeated = any(name in set(table.frame.iloc[:, at]) for at, name in enumerate(table.frame.columns))
    return f"{names} (is this a row of data? The first line must contain the column names)" if repeated else names


def _check_path(file: Path) -> None:
    if file.suffix.lower() in _COMPRESSED:
        raise InputError(f"{file}: is compressed; decompress it first")
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"{file}: unknown format '{file.suffix}'; expected {', '.join(SUFFIXES)}")
    if file.is_dir():
        raise InputError(f"{file}: is a folder; expected a file")
    if not file.is_file():
        siblings = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
        near = difflib.get_close_matches(file.name, siblings, n=1)
        hint = f"; did you mean '{file.parent / near[0]}'?" if near else ""
        raise InputError(f"{file}: no such file{hint}")


def _read_delimited(file: Path, usual: str, form: FileFormat, columns: Collection[str], tell: Tell) -> Table:
    import pandas as pd

    text, encoding = read_text(file, form.encoding)
    separator = parse_separator(form.separator) if form.separator else find_separator(text, usual, columns)
    _tell_format(file, form, encoding, None if separator == usual else separator, tell)
    records = read_records(file, text, separator)
    # values as written: nothing is parsed as a number, and "NA" is a text
    frame = pd.DataFrame(records.rows, columns=range(len(records.header)), dtype=object)
    return _table(file, frame.set_axis(records.header, axis=1), records.lines)


def _tell_format(file: Path, form: FileFormat, encoding: str, separator: str | None, tell: Tell) -> None:
    """Report what was detected from the file and differs from the usual format."""
    found = []
    if form.encoding is None and encoding != UTF8:
        found.append((f"encoding {encoding}", "--encoding"))
    if form.separator is None and separator is not None:
        found.append((f"separator {separator_name(separator)}", "--separator"))
    if found:
        what, options = zip(*found, strict=True)
        tell(f"{file}: detected {' and '.join(what)}; override with {' and '.join(options)}")


def _read_json(file: Path, by_line: bool, form: FileFormat, tell: Tell) -> Table:
    import pandas as pd

    text, encoding = read_text(file, form.encoding)
    _tell_format(file, form, encoding, None, tell)
    if not text.strip():
        raise InputError(f"{file}: the file is empty; expected one JSON object per example")
    # many files named .json contain one object per line
    records = None if by_line else _parse(text, str(file), whole=True)
    lines = None
    if records is None:
        lines, records = _records_by_line(file, text)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InputError(f"{file}: expected a list of JSON objects, one per example")
    # with dtype object, integers stay integers even beside fractions
    return _table(file, pd.DataFrame(records, dtype=object), lines)


def _parse(text: str, where: str, whole: bool) -> Any:
    """Parse JSON; returns None for a whole file that continues after its first value."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        if whole and error.msg == "Extra data":
            return None
        line = f", line {error.lineno}" if whole else ""
        raise InputError(f"{where}{line}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise InputError(f"{where}: not valid JSON: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON: {one_line(error)}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' occurs twice in an object")
    return found


def _records_by_line(file: Path, text: str) -> tuple[list[int], list[dict[str, Any]]]:
    lines, records = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        record = _parse(line, f"{file}, line {number}", whole=False)
        if not isinstance(record, dict):
            raise InputError(f"{file}, line {number}: expected a JSON object, got {one_line(line)}")
        lines.append(number)
        records.append(record)
    return lines, records


def _read_parquet(file: Path) -> Any:
    import pyarrow.parquet

    try:
        # otherwise a null would turn integers into floats
        return pyarrow.parquet.read_table(file).to_pandas(integer_object_nulls=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as Parquet: {one_line(error)}") from error
