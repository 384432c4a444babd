"""What a derived frame is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunepeft_ray.analysis.results import Results
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DerivedFrame:
    """A frame that is computed from the tables.

    Args:
        name: Its name.
        meaning: What one row is.
        columns: Its columns.
        make: Computes it; the frame has exactly these columns.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    make: Callable[[Results], pd.DataFrame]
