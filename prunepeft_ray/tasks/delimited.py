"""Parsing of CSV and TSV: which character separates columns, and on which line each row begins."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from prunepeft_ray.errors import InputError
from prunepeft_ray.text import one_line

SEPARATORS = (",", ";", "\t", "|")
SAMPLED_RECORDS = 50
_NAMES = {"\t": "tab", ",": "comma", ";": "semicolon"}
_WRITTEN = {"tab": "\t", "\\t": "\t"}


@dataclass(frozen=True)
class Records:
    """The content of a delimited file.

    Attributes:
        header: Names of the columns, without surrounding whitespace.
        rows: The fields of each row, as many as there are in the header.
        lines: The 1-based line on which each row begins.
    """

    header: list[str]
    rows: list[list[str]]
    lines: list[int]


def parse_separator(text: str) -> str:
    r"""Return the separator that a user wrote: one character, ``tab`` or ``\t``.

    Raises:
        InputError: If the text is not a valid separator.
    """
    separator = _WRITTEN.get(text.lower(), text)
    if len(separator) != 1 or separator.isalnum() or separator in '"\r\n ':
        raise InputError(f"separator '{one_line(text)}': expected one character such as ; or |, or the word tab")
    return separator


def separator_name(separator: str) -> str:
    """Return the display name of a separator, such as ``tab`` or ``'|'``."""
    return "tab" if separator == "\t" else f"'{separator}'"


def find_separator(text: str, usual: str, columns: Collection[str]) -> str:
    """Detect which character separates the columns of a text.

    Preferred is a separator that yields a header with the expected columns, and rows as long as the header; if several
    do, or none, the usual one comes first.

    Args:
        text: The file's text.
        usual: The separator that the file's suffix implies.
        columns: Names of expected columns; may be empty.
    """
    samples = {separator: _sample(text, separator) for separator in dict.fromkeys((usual, *SEPARATORS))}

    def rank(separator: str) -> tuple[bool, bool, bool]:
        header, *rows = samples[separator]
        even = len(header) > 1 and all(len(row) == len(header) for row in rows)
        return bool(columns) and set(header).issuperset(columns), even, len(header) > 1

    return max(samples, key=rank)


def read_records(file: Path, text: str, separator: str) -> Records:
    """Split a text into rows; blank lines are skipped.

    Args:
        file: The file, for error messages.
        text: The file's text.
        separator: The character that separates columns.

    Raises:
        InputError: If the text is empty, a row is longer or shorter than the header, or a quotation mark is never
            closed; names the line.
    """
    records = _records(file, text, separator)
    _, first = next(records, (0, None))
    if first is None:
        raise InputError(f"{file}: the file is empty; expected column names, then one example per line")
    header = [name.strip() for name in first]
    rows, lines = [], []
    for line, row in records:
        if len(row) != len(header):
            raise InputError(f"{file}, line {line}: {_length_problem(row, header, separator)}")
        rows.append(row)
        lines.append(line)
    return Records(header, rows, lines)


def _records(file: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield every non-blank record with the 1-based line on which it begins."""
    _allow_fields_of(text)
    lines = list(io.StringIO(text, newline=""))
    blank = " \t\r\n".replace(separator, "")
    reader = csv.reader(lines, delimiter=separator)
    begin = 1
    for row in reader:
        if reader.line_num == len(lines):
            _check_closed(file, lines[begin - 1 :], begin, separator)
        if lines[begin - 1].strip(blank):
            yield begin, row
        begin = reader.line_num + 1


def _check_closed(file: Path, lines: list[str], begin: int, separator: str) -> None:
    try:
        list(csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error as error:
        # strict mode also reports problems that are tolerated here
        if "unexpected end of data" in str(error):
            raise InputError(
                f"{file}, line {begin}: a quotation mark is never closed; double quotation marks inside a text"
            ) from error


def _sample(text: str, separator: str) -> list[list[str]]:
    """Return the header and the first rows."""
    _allow_fields_of(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header, *rows = list(islice((row for row in reader if any(row)), SAMPLED_RECORDS)) or [[]]
    return [[name.strip() for name in header], *rows]


def _allow_fields_of(text: str) -> None:
    """Raise the csv module's limit on the size of a field, 128 KiB by default."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))


def _length_problem(row: list[str], header: list[str], separator: str) -> str:
    counted = f"{len(row)} field{'' if len(row) == 1 else 's'}, but the header has {len(header)}"
    if len(row) > len(header):
        return f"{counted}; put texts that contain a {_NAMES.get(separator, separator)} in double quotes"
    return f"{counted}: '{one_line(header[len(row)])}' is missing"
