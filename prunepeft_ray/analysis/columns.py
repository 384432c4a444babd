"""Columns of derived frames: their types, frames that have exactly them, and dataclasses whose fields are columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, get_args, get_type_hints

import pyarrow as pa

from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd


TEXT, WHOLE, SHORT, NUMBER, YES = pa.string(), pa.int64(), pa.int32(), pa.float64(), pa.bool_()
TIME = pa.timestamp("us", tz="UTC")


def fitted(frame: pd.DataFrame, columns: Iterable[Column]) -> pd.DataFrame:
    """Give a frame exactly these columns and their types, in order, and fresh row numbers.

    Whole numbers stay whole where some are missing (pandas' ``Int64``).

    Args:
        frame: The frame; it may have more columns, or no rows.
        columns: The columns of a derived frame.
    """
    import pandas as pd

    schema = pa.schema([(column.name, column.type) for column in columns])
    if frame.empty:
        frame = frame.reindex(columns=schema.names).astype(object)
    table = pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False).replace_schema_metadata()
    found: pd.DataFrame = table.to_pandas()
    for column in schema:
        if pa.types.is_integer(column.type) and table[column.name].null_count:
            found[column.name] = table[column.name].to_pandas(types_mapper=lambda _: pd.Int64Dtype())
    return found


@dataclass(frozen=True)
class Described:
    """Annotation of a dataclass field that is a column.

    Args:
        type: Its Arrow type.
        meaning: What it says; ``{word}`` stands for what the record's :class:`Words` say of the word.
        unit: Its unit, or an empty string.
    """

    type: pa.DataType
    meaning: str
    unit: str = ""


class Words(dict[str, str]):
    """Annotation of a dataclass field with a record in it: what the words in the meanings of its columns stand for."""


def columns_of(record: type, prefix: str = "", words: Mapping[str, str] = MappingProxyType({})) -> tuple[Column, ...]:
    """Return the columns that a dataclass describes, in the order of its fields.

    Args:
        record: The dataclass; a record in one of its fields has the field's name before its columns.
        prefix: What stands before every name.
        words: What the words in meanings stand for.
    """
    found: list[Column] = []
    for name, annotated in get_type_hints(record, include_extras=True).items():
        for said in getattr(annotated, "__metadata__", ()):
            if isinstance(said, Words):
                found += columns_of(get_args(annotated)[0], f"{prefix}{name}_", said)
            else:
                found.append(Column(prefix + name, said.type, said.meaning.format(**words), said.unit))
    return tuple(found)
