"""Tables as CSV for spreadsheets, which take a text that begins like a formula for one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"[=+\-@\t\n]")


def to_csv(frame: pd.DataFrame) -> str:
    """Write a table as CSV without its index; a text that would be a formula gets an apostrophe before it.

    Args:
        frame: The table. Numbers stay what they are, as text too.
    """
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    plain = {
        name: column if is_numeric_dtype(column) or is_bool_dtype(column) else column.astype(object).map(_plain)
        for name, column in frame.items()
    }
    return type(frame)(plain).rename(columns=_plain).to_csv(index=False)


def _plain(cell: Any) -> Any:
    if not isinstance(cell, str) or _is_number(cell):
        return cell
    # the csv module puts a bare \r outside quotes, where it ends the row
    text = cell.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _FORMULA.match(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
