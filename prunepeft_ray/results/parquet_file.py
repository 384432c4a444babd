"""The Parquet files of a table, which are either read completely or reported as damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.results.schema import READABLE, SCHEMA_VERSION, arrow_schema
from prunepeft_ray.storage.paths import read_bytes

VERSION = b"prunepeft_schema_version"


@dataclass(frozen=True)
class Damage:
    """A file that cannot be read.

    Args:
        file: The file.
        reason: What is wrong with the file.
    """

    file: Path
    reason: str

    @property
    def text(self) -> str:
        """A sentence for the user."""
        return f"Damaged and left out: {self.file} ({self.reason})."


Tell = Callable[[Damage], object]


class DamageError(RunError):
    """A file of a table is missing or damaged.

    Args:
        file: The file.
        reason: What is wrong with the file.
    """

    def __init__(self, file: Path, reason: str) -> None:
        self.damage = Damage(file, " ".join(reason.split()))
        super().__init__(
            f"{file} is missing or damaged ({self.damage.reason}); delete {file.parent.parent}/*/{file.name}, then "
            "'prunepeft resume' recomputes it"
        )


def read_part(file: Path) -> pa.Table:
    """Read a file of a table, with the columns of the current schema.

    Args:
        file: The file, in a folder named after its table.

    Raises:
        DamageError: If the file is missing or damaged, or not one of a results store.
        InputError: If it was written by a version that cannot be read.
    """
    try:
        data = read_bytes(file)
    except OSError as error:
        raise DamageError(file, str(error)) from error
    return decode(data, file)


def decode(data: bytes, file: Path) -> pa.Table:
    """Return the rows in a file's bytes, with the columns of the current schema; errors as in :func:`read_part`."""
    try:
        found = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamageError(file, str(error)) from error
    version = (found.schema.metadata or {}).get(VERSION, b"none").decode(errors="replace")
    if not version.isdecimal():
        raise DamageError(file, f"schema version {version}: it does not belong to a results store")
    if version not in map(str, READABLE):
        raise InputError(
            f"{file} has schema version {version}; this version of prunepeft-ray reads "
            f"{', '.join(map(str, READABLE[:-1]))} and {READABLE[-1]}"
        )
    schema = arrow_schema(file.parent.name)
    found = found if version == str(SCHEMA_VERSION) else _upgraded(found, schema)
    if not found.schema.equals(schema):
        raise DamageError(file, f"its columns are not those of {file.parent.name}")
    return found.replace_schema_metadata(schema.metadata)


def _upgraded(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Add the columns that an older version did not have; they are null."""
    for place, field in enumerate(schema):
        if field.name not in table.column_names:
            table = table.add_column(place, field, pa.nulls(len(table), field.type))
    return table


def encode(table: pa.Table, metadata: dict[str, str] | None = None) -> bytes:
    """Return the bytes of a file.

    Args:
        table: The rows.
        metadata: Additional metadata.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, write_page_checksum=True) as writer:
        writer.write_table(table)
        # not part of the schema's metadata, which Parquet stores twice
        writer.add_key_value_metadata(metadata or {})
    data: bytes = sink.getvalue().to_pybytes()
    return data


def metadata_of(data: bytes) -> dict[bytes, bytes]:
    """Return the metadata in the bytes of a valid file."""
    return dict(pq.read_metadata(pa.BufferReader(data)).metadata or {})
