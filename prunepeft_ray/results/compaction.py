"""Compaction: the rows of many files copied into one, so that a large store can be read quickly.

Compacted files are only a copy; the individual files remain authoritative. A compacted file records the stamp and the
number of rows of each file that it contains, and is used only for files that still exist with that stamp. It is named
by the digest of its bytes and never changed, so writers may race, be killed, or never run at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from prunepeft_ray.errors import InputError
from prunepeft_ray.results.parquet_file import DamageError, Tell, decode, encode, metadata_of, read_part
from prunepeft_ray.results.schema import arrow_schema
from prunepeft_ray.storage.files import write_whole
from prunepeft_ray.storage.paths import map_files, names, read_bytes

FOLDER = "merged"
"""Name of the folder, beside those of the tables."""
MIN_FILES, MAX_FILES = 100, 10_000
"""How many files are worth compacting, and how many go into one compacted file."""
SOURCES_KEY = "prunepeft_merged"

Sources = dict[str, tuple[int, str]]
"""Number of rows and stamp, by name of the file."""


@dataclass(frozen=True)
class CompactedFile:
    """The content of a compacted file.

    Args:
        rows: The rows, in the order of the files that they come from.
        sources: The files that it contains.
    """

    rows: pa.Table
    sources: Sources


def read_compacted(folder: Path, table: str, tell: Tell) -> list[CompactedFile]:
    """Read all compacted files of a table.

    Args:
        folder: Folder of the results store.
        table: Name of the table.
        tell: Callback that receives damaged compacted files, which are skipped: the individual files still exist.
    """

    def read(file: Path) -> CompactedFile | None:
        try:
            return _read(file)
        except DamageError as error:
            tell(error.damage)
        except InputError:
            # written by another version; the individual files still exist
            pass
        return None

    found = [name for name in names(folder / FOLDER / table) if name.endswith(".parquet") and name[0] != "."]
    compacted = map_files(read, [folder / FOLDER / table / name for name in found])
    return [one for one in compacted if one is not None]


def _read(file: Path) -> CompactedFile:
    try:
        data = read_bytes(file)
    except OSError as error:
        raise DamageError(file, str(error)) from error
    if _digest(data) != file.stem:
        raise DamageError(file, "its name is not the digest of its bytes")
    rows = decode(data, file)
    sources = json.loads(metadata_of(data)[SOURCES_KEY.encode()])
    return CompactedFile(rows, {name: (count, stamp) for name, (count, stamp) in sources.items()})


def read_table(folder: Path, table: str, wanted: Mapping[str, str], tell: Tell | None) -> pa.Table:
    """Read files of a table, in order, from compacted files where possible.

    Args:
        folder: Folder of the results store.
        table: Name of the table.
        wanted: The stamps of the files by their names, in order.
        tell: Callback that receives damaged files, which are skipped; default: the first one is an error.

    Raises:
        DamageError: If a file is damaged.
        InputError: If a file was written by a version that cannot be read.
    """
    places = {name: place for place, name in enumerate(wanted)}
    parts, orders = [arrow_schema(table).empty_table()], [np.empty(0, np.int64)]
    for one in read_compacted(folder, table, tell or _ignore):
        counts = [count for count, _stamp in one.sources.values()]
        taken = [places.pop(name, -1) if wanted.get(name) == stamp else -1 for name, (_, stamp) in one.sources.items()]
        order = np.repeat(np.array(taken, np.int64), counts)
        parts.append(one.rows.filter(order >= 0))
        orders.append(order[order >= 0])
    for name, rows in _read_each(folder, table, places, tell).items():
        parts.append(rows)
        orders.append(np.full(len(rows), places[name]))
    whole, order = pa.concat_tables(parts), np.concatenate(orders)
    if np.all(order[:-1] <= order[1:]):
        return whole
    return whole.combine_chunks().take(np.argsort(order, kind="stable"))


def _read_each(folder: Path, table: str, files: Iterable[str], tell: Tell | None) -> dict[str, pa.Table]:
    """Read files one by one; damaged ones are reported and skipped, or raise an error if nobody listens."""

    def read(file: Path) -> pa.Table | None:
        try:
            return read_part(file)
        except DamageError as error:
            if tell is None:
                raise
            tell(error.damage)
            return None

    files = list(files)
    found = zip(files, map_files(read, [folder / table / name for name in files]), strict=True)
    return {name: rows for name, rows in found if rows is not None}


def compact(folder: Path, table: str, wanted: Mapping[str, str], growth: float = 0.0) -> int:
    """Compact the files of a table that are not in a compacted file yet.

    Args:
        folder: Folder of the results store.
        table: Name of the table; its files are never changed.
        wanted: The stamps of the files by their names.
        growth: Minimum number of new files, as a fraction of those compacted before.

    Returns:
        The number of files that were compacted; 0 if there are too few new ones.

    Raises:
        RunError: If the compacted file cannot be written.
        InputError: If a file was written by a version that cannot be read.
    """
    compacted = read_compacted(folder, table, _ignore)
    before = {name: stamp for one in compacted for name, (_, stamp) in one.sources.items()}
    new = [name for name, stamp in wanted.items() if before.get(name) != stamp]
    if len(new) < max(MIN_FILES, growth * len(before)):
        return 0
    for start in range(0, len(new), MAX_FILES):
        whole = _read_each(folder, table, new[start : start + MAX_FILES], _ignore)
        if whole:
            sources = {name: (len(rows), wanted[name]) for name, rows in whole.items()}
            write_compacted(folder, table, CompactedFile(pa.concat_tables(whole.values()), sources))
    return len(new)


def write_compacted(folder: Path, table: str, compacted: CompactedFile) -> None:
    """Write a compacted file.

    Raises:
        RunError: If it cannot be written.
    """
    data = encode(compacted.rows.combine_chunks(), {SOURCES_KEY: json.dumps(compacted.sources)})
    # an existing file of that name is either identical or damaged
    write_whole(folder / FOLDER / table / f"{_digest(data)}.parquet", data, replace=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _ignore(_damage: object) -> None:
    pass
