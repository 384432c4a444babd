"""Merged parts: the rows of many finished files in one, so that a large store is read quickly.

They are a copy: the single files stay the truth. A merged part notes of each file that it holds the stamp and the
number of rows, and counts only for files that are still there with that stamp. It is named by the digest of its bytes
and never changed, so writers may race, be killed, or be missing altogether.
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
from prunepeft_ray.results.parquet_file import DamageError, Tell, decode, encode, notes_of, read_part
from prunepeft_ray.results.schema import arrow_schema
from prunepeft_ray.storage.files import write_whole
from prunepeft_ray.storage.paths import map_files, names, read_bytes

MERGED = "merged"
"""The folder, beside those of the tables."""
FEWEST, MOST = 100, 10_000
"""How many files are worth a merged part, and how many go into one."""
HELD = "prunepeft_merged"

Held = dict[str, tuple[int, str]]
"""Number of rows and stamp, by the name of the file."""


@dataclass(frozen=True)
class MergedPart:
    """A merged part.

    Args:
        rows: The rows, in the order of the files.
        held: The files.
    """

    rows: pa.Table
    held: Held


def read_merged(folder: Path, table: str, tell: Tell) -> list[MergedPart]:
    """Read all merged parts of a table.

    Args:
        folder: Folder of the results store.
        table: The table.
        tell: Told of damaged ones, which are left out: the single files are still there.
    """

    def read(file: Path) -> MergedPart | None:
        try:
            return _read(file)
        except DamageError as error:
            tell(error.damage)
        except InputError:
            # another version can read it, and the single files are there
            pass
        return None

    found = [name for name in names(folder / MERGED / table) if name.endswith(".parquet") and name[0] != "."]
    parts = map_files(read, [folder / MERGED / table / name for name in found])
    return [part for part in parts if part is not None]


def _read(file: Path) -> MergedPart:
    try:
        data = read_bytes(file)
    except OSError as error:
        raise DamageError(file, str(error)) from error
    if _digest(data) != file.stem:
        raise DamageError(file, "its name is not the digest of its bytes")
    rows = decode(data, file)
    held = json.loads(notes_of(data)[HELD.encode()])
    return MergedPart(rows, {name: (count, stamp) for name, (count, stamp) in held.items()})


def read_table(folder: Path, table: str, wanted: Mapping[str, str], tell: Tell | None) -> pa.Table:
    """Read files of a table, in order, through merged parts as far as these hold them.

    Args:
        folder: Folder of the results store.
        table: The table.
        wanted: The stamps of the files by their names, in order.
        tell: Told of damaged files, which are left out; default: the first one is an error.

    Raises:
        DamageError: If a file is damaged.
        InputError: If a file comes from a version that cannot be read.
    """
    places = {name: place for place, name in enumerate(wanted)}
    parts, orders = [arrow_schema(table).empty_table()], [np.empty(0, np.int64)]
    for merged in read_merged(folder, table, tell or _say_nothing):
        counts = [count for count, _stamp in merged.held.values()]
        taken = [places.pop(name, -1) if wanted.get(name) == stamp else -1 for name, (_, stamp) in merged.held.items()]
        order = np.repeat(np.array(taken, np.int64), counts)
        parts.append(merged.rows.filter(order >= 0))
        orders.append(order[order >= 0])
    for name, rows in _read_each(folder, table, places, tell).items():
        parts.append(rows)
        orders.append(np.full(len(rows), places[name]))
    whole, order = pa.concat_tables(parts), np.concatenate(orders)
    if np.all(order[:-1] <= order[1:]):
        return whole
    return whole.combine_chunks().take(np.argsort(order, kind="stable"))


def _read_each(folder: Path, table: str, files: Iterable[str], tell: Tell | None) -> dict[str, pa.Table]:
    """Read files one by one; damaged ones are told and left out, or the first one is an error."""

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


def merge(folder: Path, table: str, wanted: Mapping[str, str], growth: float = 0.0) -> int:
    """Merge the files of a table that no merged part holds yet.

    Args:
        folder: Folder of the results store.
        table: The table; its files are never changed.
        wanted: The stamps of the files by their names.
        growth: How many files it must be at least, as a share of those merged before.

    Returns:
        How many files were merged; none where they are few.

    Raises:
        RunError: If the merged part cannot be written.
        InputError: If a file comes from a version that cannot be read.
    """
    merged = read_merged(folder, table, _say_nothing)
    before = {name: stamp for part in merged for name, (_, stamp) in part.held.items()}
    new = [name for name, stamp in wanted.items() if before.get(name) != stamp]
    if len(new) < max(FEWEST, growth * len(before)):
        return 0
    for start in range(0, len(new), MOST):
        whole = _read_each(folder, table, new[start : start + MOST], _say_nothing)
        if whole:
            held = {name: (len(rows), wanted[name]) for name, rows in whole.items()}
            put_merged(folder, table, MergedPart(pa.concat_tables(whole.values()), held))
    return len(new)


def put_merged(folder: Path, table: str, part: MergedPart) -> None:
    """Write a merged part.

    Raises:
        RunError: If it cannot be written.
    """
    data = encode(part.rows.combine_chunks(), {HELD: json.dumps(part.held)})
    # what has that name is the same, or damaged
    write_whole(folder / MERGED / table / f"{_digest(data)}.parquet", data, replace=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _say_nothing(_damage: object) -> None:
    pass
