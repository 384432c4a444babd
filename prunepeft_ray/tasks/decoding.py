"""Decoding of text files, including detection of their encoding."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

from prunepeft_ray.errors import InputError

UTF8 = "UTF-8"
_WINDOWS = "Windows-1252"

# longer marks first, since that of UTF-32 begins with that of UTF-16
_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_NOT_TEXT = (
    (b"\x1f\x8b", "compressed with gzip; decompress it first"),
    (b"PK\x03\x04", "an archive or a workbook such as .xlsx; save its table as CSV"),
    (b"PAR1", "a Parquet file; rename it to .parquet"),
)


def read_text(file: Path, encoding: str | None = None) -> tuple[str, str]:
    """Read a text file.

    By default, the encoding is detected: by a byte order mark; as UTF-16 by a NUL byte in the first character; as UTF-8
    if the file is valid UTF-8; otherwise as Windows-1252, unless the file looks like damaged UTF-8.

    Args:
        file: The file.
        encoding: Name of its encoding; None to detect it.

    Returns:
        The text, without a byte order mark, and the name of the encoding.

    Raises:
        InputError: If the file cannot be read, is not text, or is not in that encoding; names the line.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    for magic, what in _NOT_TEXT:
        if data.startswith(magic):
            raise InputError(f"{file}: is {what}")
    if encoding is None:
        text, encoding = _detect(file, data)
    else:
        text = _decode(file, data, encoding)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(
            f"{file}, line {line}: contains a NUL byte; expected text, or give its encoding with --encoding"
        )
    return text, encoding


def _detect(file: Path, data: bytes) -> tuple[str, str]:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None and len(data) > 1 and data.count(b"\0", 0, 2) == 1:
        encoding = "UTF-16-LE" if data[1] == 0 else "UTF-16-BE"
    if encoding is not None:
        return _decode(file, data, encoding), encoding
    try:
        return data.decode(), UTF8
    except UnicodeDecodeError as error:
        # far more valid multi-byte characters than invalid bytes: damaged UTF-8 rather than another encoding
        letters = data.decode(errors="replace")
        wrong = letters.count("\ufffd")
        if sum(letter > "\x7f" for letter in letters) > 2 * wrong:
            raise InputError(
                f"{file}, line {_line(data, error)}: not valid UTF-8; save the file in that encoding"
            ) from error
        return _decode(file, data, _WINDOWS), _WINDOWS


def _decode(file: Path, data: bytes, encoding: str) -> str:
    try:
        # unlike bytes.decode, this rejects codecs such as rot13, which are not text encodings
        text = io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline="").read()
    except LookupError as error:
        raise InputError(
            f"unknown encoding '{encoding}'; expected for example utf-8, utf-16 or windows-1252"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}, line {_line(data, error)}: not valid {encoding}; give its encoding with --encoding, "
            "such as utf-8, utf-16 or windows-1252"
        ) from error
    except ValueError as error:
        raise InputError(f"{file}: cannot be read as {encoding}; give its encoding with --encoding") from error
    return text.removeprefix("\ufeff")


def _line(data: bytes, error: UnicodeDecodeError) -> int:
    return data.count(b"\n", 0, error.start) + 1
