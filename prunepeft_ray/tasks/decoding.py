"""From a file's bytes to its text: which encoding it is in."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

from prunepeft_ray.errors import InputError

UTF8 = "UTF-8"
_WINDOWS = "Windows-1252"

# longer marks first: that of UTF-32 begins with that of UTF-16
_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_NOT_TEXT = (
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"PK\x03\x04", "an archive or a workbook such as .xlsx; save its table as CSV"),
    (b"PAR1", "a Parquet file; name it .parquet"),
)


def read_text(file: Path, encoding: str | None = None) -> tuple[str, str]:
    """Read a text file.

    Without a named encoding it is told from the file: by its byte order mark; UTF-16 by a NUL byte in the first
    character; UTF-8 if it is valid; else Windows-1252, unless the file is a damaged UTF-8 one.

    Args:
        file: The file.
        encoding: Name of its encoding; None: told from the file.

    Returns:
        The text, without a byte order mark, and the encoding's name.

    Raises:
        InputError: If it cannot be read, is no text, or is not in that encoding; names the line.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    for magic, what in _NOT_TEXT:
        if data.startswith(magic):
            raise InputError(f"{file}: is {what}")
    if encoding is None:
        text, encoding = _told(file, data)
    else:
        text = _decoded(file, data, encoding)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{file}, line {line}: holds a NUL byte; expected text, or name its encoding with --encoding")
    return text, encoding


def _told(file: Path, data: bytes) -> tuple[str, str]:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None and len(data) > 1 and data.count(b"\0", 0, 2) == 1:
        encoding = "UTF-16-LE" if data[1] == 0 else "UTF-16-BE"
    if encoding is not None:
        return _decoded(file, data, encoding), encoding
    try:
        return data.decode(), UTF8
    except UnicodeDecodeError as error:
        # more letters that are valid UTF-8 than bytes that are not: damaged, not another encoding
        letters = data.decode(errors="replace")
        wrong = letters.count("\ufffd")
        if sum(letter > "\x7f" for letter in letters) > 2 * wrong:
            raise InputError(
                f"{file}, line {_line(data, error)}: not UTF-8; save the file with that encoding"
            ) from error
        return _decoded(file, data, _WINDOWS), _WINDOWS


def _decoded(file: Path, data: bytes, encoding: str) -> str:
    try:
        # unlike bytes.decode this refuses codecs such as rot13, which are no encodings of text
        text = io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline="").read()
    except LookupError as error:
        raise InputError(f"encoding '{encoding}' is unknown; expected such as utf-8, utf-16 or windows-1252") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}, line {_line(data, error)}: not {encoding}; say the file's encoding with --encoding, "
            "such as utf-8, utf-16 or windows-1252"
        ) from error
    except ValueError as error:
        raise InputError(f"{file}: cannot be read as {encoding}; say the file's encoding with --encoding") from error
    return text.removeprefix("\ufeff")


def _line(data: bytes, error: UnicodeDecodeError) -> int:
    return data.count(b"\n", 0, error.start) + 1
