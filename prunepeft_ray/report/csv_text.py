"""Tables as CSV that is safe for spreadsheets, which take a text that starts like a formula for one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"[=+\-@\t\n]")


def to_csv(frame: pd.DataFrame) -> str:
    """Format a table as CSV without its index; texts that spreadsheets would run as formulas start with an apostrophe.

    Args:
        frame: The table. Numbers, including those stored as text, are unchanged.
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
    # the csv module does not quote a bare \r, which would end the row
    text = cell.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _FORMULA.match(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
