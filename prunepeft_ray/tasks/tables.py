"""Reading a local file into a table, and saying where in the file a row is."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunepeft_ray.errors import InputError
from prunepeft_ray.tasks.base import one_line

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, eq=False)
class Table:
    """A file's content.

    Attributes:
        path: The file.
        frame: A pandas DataFrame with at least one row, columns named by strings, rows numbered from 0. Values
            of CSV and TSV are strings.
        lines: Whether a JSON file turned out to hold one object per line.
    """

    path: Path
    frame: Any
    lines: bool = False

    def where(self, row: int) -> str:
        """Name the file and the line on which a row begins, as an editor shows it, or the row's number."""
        suffix = self.path.suffix.lower()
        line = None
        if suffix in _DELIMITERS:
            line = _line_of_record(_text(self.path), _DELIMITERS[suffix], row)
        elif self.lines:
            filled = [number for number, text in enumerate(_text(self.path).split("\n"), 1) if text.strip()]
            line = filled[row]
        return f"{self.path}, row {row + 1}" if line is None else f"{self.path}, line {line}"


def read_table(path: str | Path) -> Table:
    """Read a CSV, TSV, JSONL, JSON (a list of objects) or Parquet file; text is UTF-8.

    Raises:
        InputError: If there is no such file, its suffix is not one of ``SUFFIXES``, its content is malformed or
            it has no rows.
    """
    if "://" in str(path):
        raise InputError(f"{path}: only local files are read; download it first")
    file = Path(path).expanduser()
    _check_path(file)
    suffix = file.suffix.lower()
    lines = False
    if suffix == ".parquet":
        frame = _read_parquet(file)
    elif suffix in _DELIMITERS:
        frame = _read_delimited(file, _DELIMITERS[suffix])
    else:
        frame, lines = _read_json(file, lines=suffix == ".jsonl")
    frame.columns = [str(column).strip() for column in frame.columns]
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise InputError(f"{file}: there are two columns named '{repeated[0]}'; rename one")
    if not len(frame):
        raise InputError(f"{file}: the file has no rows; expected one example per row")
    return Table(file, frame.reset_index(drop=True), lines)


def find_column(table: Table, name: str, key: str) -> str:
    """Check that a column exists.

    Args:
        table: Where to look.
        name: What the user wrote.
        key: The setting in which it was written, such as ``"task.text"``.

    Raises:
        InputError: If there is no such column; names the nearest and all columns.
    """
    if name in table.frame.columns:
        return name
    near = difflib.get_close_matches(name, table.frame.columns, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise InputError(f"{table.path}: there is no column '{name}' ({key}); {hint}columns: {columns_text(table)}")


def columns_text(table: Table) -> str:
    """List a table's columns for an error message."""
    return one_line(", ".join(table.frame.columns))


def _check_path(file: Path) -> None:
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"{file}: unknown format '{file.suffix}'; expected {', '.join(SUFFIXES)}")
    if file.is_dir():
        raise InputError(f"{file}: is a folder; expected a file")
    if not file.is_file():
        siblings = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
        near = difflib.get_close_matches(file.name, siblings, n=1)
        hint = f"; did you mean '{file.parent / near[0]}'?" if near else ""
        raise InputError(f"{file}: no such file{hint}")


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{file}, line {line}: not UTF-8; save the file with that encoding") from error


def _read_delimited(file: Path, delimiter: str) -> Any:
    import pandas as pd

    text = _text(file)
    if not text.strip():
        raise InputError(f"{file}: the file is empty; expected column names, then one example per line")
    try:
        frame = pd.read_csv(io.StringIO(text), sep=delimiter, dtype="str", keep_default_na=False)
    except ValueError as error:
        raise InputError(_delimited_problem(file, text, delimiter, error)) from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise InputError(f"{file}: rows have more fields than the header has; {_quote_hint(delimiter)}")
    return frame


def _delimited_problem(file: Path, text: str, delimiter: str, error: ValueError) -> str:
    message = one_line(error)
    if fields := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message):
        expected, line, got = fields.groups()
        return f"{file}, line {line}: {got} fields, the header has {expected}; {_quote_hint(delimiter)}"
    if row := re.search(r"EOF inside string starting at row (\d+)", message):
        line = _line_of_record(text, delimiter, int(row[1]) - 1)
        place = f"{file}" if line is None else f"{file}, line {line}"
        return f"{place}: a quotation mark is never closed; write a quotation mark inside of a text twice"
    return f"{file}: malformed: {message}"


def _quote_hint(delimiter: str) -> str:
    return f"put a text that contains a {'tab' if delimiter == chr(9) else 'comma'} in double quotes"


def _line_of_record(text: str, delimiter: str, row: int) -> int | None:
    """Return the line on which a record begins (row 0 follows the header), or None if it cannot be told."""
    lines, blank = text.split("\n"), " \t\r".replace(delimiter, "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    begin, found = 1, -2
    try:
        for _ in reader:
            found += bool(lines[begin - 1].strip(blank))  # blank lines are no records
            if found == row:
                return begin
            begin = reader.line_num + 1
    except (csv.Error, IndexError):
        pass
    return None


def _read_json(file: Path, lines: bool) -> tuple[Any, bool]:
    import pandas as pd

    text = _text(file)
    if not text.strip():
        raise InputError(f"{file}: the file is empty; expected one JSON object per example")
    if not lines:
        try:
            records = json.loads(text)
        except json.JSONDecodeError as error:
            # many files named .json hold one object per line
            if error.msg != "Extra data":
                raise InputError(f"{file}, line {error.lineno}: not valid JSON: {error.msg}") from error
            lines = True
    if lines:
        records = _records_by_line(file, text)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InputError(f"{file}: expected a list of JSON objects, one per example")
    return pd.DataFrame(records), lines


def _records_by_line(file: Path, text: str) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{file}, line {number}: not valid JSON: {error.msg}") from error
        if not isinstance(record, dict):
            raise InputError(f"{file}, line {number}: expected a JSON object, got {one_line(line)}")
        records.append(record)
    return records


def _read_parquet(file: Path) -> Any:
    import pandas as pd

    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as Parquet: {one_line(error)}") from error
