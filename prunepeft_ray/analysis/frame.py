"""Derived frames: what one is, and how its columns get their types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from prunepeft_ray.analysis.results import Results
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd


TEXT, WHOLE, NUMBER, YES = pa.string(), pa.int64(), pa.float64(), pa.bool_()


def fitted(frame: pd.DataFrame, columns: tuple[Column, ...]) -> pd.DataFrame:
    """Give a frame exactly these columns and their types, as reading a table does.

    Args:
        frame: The frame; it may have more columns, and no rows.
        columns: The columns of a derived frame.
    """
    schema = pa.schema([(column.name, column.type) for column in columns])
    if frame.empty:
        frame = frame.reindex(columns=schema.names)
    fitted = pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False)
    found: pd.DataFrame = fitted.replace_schema_metadata().to_pandas()
    return found


@dataclass(frozen=True)
class DerivedFrame:
    """A frame that is worked out from the tables.

    Args:
        name: Its name.
        meaning: What one row is.
        columns: Its columns.
        make: Works it out; the frame has exactly these columns.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    make: Callable[[Results], pd.DataFrame]


def shaped(frame: pd.DataFrame, columns: Iterable[Column]) -> pd.DataFrame:
    """Give a derived frame exactly its columns, in order, and fresh row numbers; whole numbers may be missing."""
    types: dict[str, str] = {}
    for column in columns:
        if str(column.type).startswith("int"):
            types[column.name] = "Int64" if frame[column.name].hasnans else "int64"
        elif str(column.type) == "double":
            types[column.name] = "float64"
    return frame[[column.name for column in columns]].astype(types).reset_index(drop=True)


def nothing(columns: Iterable[Column]) -> pd.DataFrame:
    """Return a derived frame without rows."""
    import pandas as pd

    return shaped(pd.DataFrame({column.name: [] for column in columns}).astype("object"), columns)
