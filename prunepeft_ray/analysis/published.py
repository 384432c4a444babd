"""The numbers that the paper printed, to stand beside ours and never to pass for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunepeft_ray.analysis.columns import NUMBER, TEXT, WHOLE, fitted
from prunepeft_ray.analysis.comparison import BEST_BY_DEV, BEST_BY_TEST
from prunepeft_ray.analysis.frame import DerivedFrame
from prunepeft_ray.analysis.method_rows import BASELINE
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd

PAPER = "PrunePEFT, arXiv 2506.07587"


@dataclass(frozen=True)
class PublishedRow:
    """A row as the paper has it.

    Args:
        name: Its heading; ``*``: copied by the authors from elsewhere.
        values: One per column of the table, in its unit; NaN where it has none.
        note: What is odd about it.
    """

    name: str
    values: tuple[float, ...]
    note: str = ""


@dataclass(frozen=True)
class OwnRow:
    """A row of ours that stands for what a published one is about.

    Args:
        name: Its heading.
        method: The registered method, or a choice among single criteria, by its label.
    """

    name: str
    method: str


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper, and which rows of ours belong beside it.

    Args:
        number: Its number.
        title: What it shows.
        terms: What its numbers rest on.
        columns: Headings of the published columns.
        unit: What the values are counted in.
        rows: Published rows, each followed by those of ours that belong to it.
        others: Whether all other methods of a study follow.
    """

    number: int
    title: str
    terms: str
    columns: tuple[str, ...]
    unit: str
    rows: tuple[PublishedRow | OwnRow, ...]
    others: bool = False

    @property
    def source(self) -> str:
        """Where it was printed."""
        return f"{PAPER}, Table {self.number}"


_GLUE = ("% params", "MNLI", "QNLI", "QQP", "RTE", "SST-2", "MRPC", "CoLA", "avg")
_THREE = ("QNLI", "SST-2", "MNLI")
_SINGLE_RUNS = "GLUE dev, single runs, CoLA by Matthews correlation, others by accuracy"
_PERCENT = "% (of parameters, of the metric)"
_LARGE = f"RoBERTa-large, {_SINGLE_RUNS}"
ENCODERS, DECODERS = 2, 3
"""The tables of final metrics, by kind of backbone."""
COSTS = 4
"""The table of costs."""

TABLES_OF_PAPER = (
    PublishedTable(
        2,
        "final metric, encoder",
        f"{_LARGE}; * copied by its authors from elsewhere",
        _GLUE,
        _PERCENT,
        (
            PublishedRow("full fine-tuning*", (100, 90.2, 94.7, 92.2, 86.6, 96.4, 90.9, 68.0, 88.4)),
            OwnRow("full fine-tuning", "full"),
            PublishedRow("adapter 128", (2, 90.0, 94.1, 89.2, 83.8, 96.1, 85.6, 65.0, 86.3)),
            OwnRow("adapter", "uniform-adapter"),
            PublishedRow("LoRA 32", (1, 89.9, 93.8, 89.8, 84.0, 96.0, 86.3, 65.3, 86.4)),
            OwnRow("LoRA", "uniform-lora"),
            PublishedRow("DoRA 32", (1, 90.1, 94.7, 90.1, 83.8, 96.9, 86.0, 63.8, 86.5)),
            OwnRow("DoRA", "uniform-dora"),
            PublishedRow("S3Delta", (1, 90.1, 94.7, 90.4, 84.5, 95.8, 90.2, 65.8, 87.4)),
            PublishedRow("S-MaM*", (1, 90.6, 94.5, 90.6, 85.2, 95.9, 90.4, 66.3, 87.6)),
            PublishedRow("AutoPEFT", (1, 90.3, 94.7, 90.6, 85.0, 96.3, 89.7, 66.9, 87.6)),
            OwnRow("AutoPEFT", "autopeft"),
            PublishedRow("PrunePEFT", (1, 90.5, 94.9, 90.6, 85.5, 96.6, 90.4, 66.6, 87.9)),
            OwnRow("PrunePEFT", BASELINE),
            PublishedRow(
                "PrunePEFT, low fidelity",
                (1, 90.1, 94.9, 90.0, 85.0, 96.3, 88.2, 66.0, 87.0),
                "the row's own average is 87.2",
            ),
            OwnRow("PrunePEFT, low fidelity", "prunepeft:low-fidelity"),
        ),
        others=True,
    ),
    PublishedTable(
        3,
        "final metric, decoder",
        f"Llama3-8B, {_SINGLE_RUNS}",
        _GLUE,
        _PERCENT,
        (
            PublishedRow("LoRA 32", (0.40, 88.0, 95.0, 90.6, 86.6, 97.0, 84.2, 61.9, 86.2)),
            OwnRow("LoRA", "uniform-lora"),
            PublishedRow("DoRA", (math.nan, 89.8, 94.7, 90.1, 86.6, 97.2, 83.9, 66.9, 87.0)),
            OwnRow("DoRA", "uniform-dora"),
            PublishedRow(
                "PrunePEFT",
                (0.34, 90.2, 95.2, 90.8, 84.8, 97.3, 84.8, 66.4, 87.3),
                "the row's own average is 87.1",
            ),
            OwnRow("PrunePEFT", BASELINE),
        ),
        others=True,
    ),
    PublishedTable(
        COSTS,
        "epochs of search and retraining",
        "RoBERTa-large, GLUE; AutoPEFT's and S3Delta's are the paper's figures for them",
        ("search", "retraining"),
        "epochs (passes over the training split)",
        (
            PublishedRow("AutoPEFT", (185, 20)),
            OwnRow("AutoPEFT", "autopeft"),
            PublishedRow("S3Delta", (130, 20)),
            PublishedRow("S-MaM", (20, 20)),
            PublishedRow("PrunePEFT", (6.0, 20)),
            OwnRow("PrunePEFT", BASELINE),
            PublishedRow("PrunePEFT, low fidelity", (0.1, 20)),
            OwnRow("PrunePEFT, low fidelity", "prunepeft:low-fidelity"),
        ),
        others=True,
    ),
    PublishedTable(
        5,
        "parts taken out",
        f"{_LARGE}; its best single criterion was chosen by these very numbers, as an oracle would",
        _THREE,
        "%",
        (
            PublishedRow("no pruning", (94.1, 95.8, 90.0)),
            OwnRow("no pruning", "no-pruning"),
            PublishedRow("random pruning", (93.8, 95.6, 89.5)),
            OwnRow("random pruning", "random-pruning"),
            PublishedRow("best single criterion per task", (94.7, 96.4, 90.1)),
            OwnRow("best single criterion, oracle", BEST_BY_TEST),
            OwnRow("best single criterion, chosen on dev", BEST_BY_DEV),
            PublishedRow("no block partition", (94.7, 96.3, 90.2)),
            OwnRow("no block partition", "no-partition"),
            PublishedRow("PrunePEFT", (94.9, 96.6, 90.5)),
            OwnRow("PrunePEFT", BASELINE),
        ),
    ),
    PublishedTable(
        6,
        "transfer from another task",
        _LARGE,
        _THREE,
        "%",
        (
            PublishedRow("none", (94.9, 96.6, 90.5)),
            OwnRow("none", BASELINE),
            PublishedRow("RTE, strategy", (94.9, 96.4, 90.3)),
            PublishedRow("CoLA, strategy", (94.9, 96.4, 90.3)),
            OwnRow("strategy of another task", "strategy-transfer"),
            PublishedRow("RTE, architecture", (94.7, 96.4, 90.1)),
            PublishedRow("CoLA, architecture", (94.8, 96.3, 90.3)),
            OwnRow("architecture of another task", "architecture-transfer"),
        ),
    ),
)


def published(_results: Results) -> pd.DataFrame:
    """List the published numbers; they are the same whatever the results."""
    import pandas as pd

    rows = [
        (table.number, row.name, column, value, table.unit, row.note, table.source, table.terms)
        for table in TABLES_OF_PAPER
        for row in table.rows
        if isinstance(row, PublishedRow)
        for column, value in zip(table.columns, row.values, strict=True)
    ]
    return fitted(pd.DataFrame(rows, columns=[column.name for column in PUBLISHED.columns]), PUBLISHED.columns)


PUBLISHED = DerivedFrame(
    "published",
    "One row per number that the paper printed; none of them is ours.",
    (
        Column("number", WHOLE, "number of the paper's table"),
        Column("row", TEXT, "the row's heading; *: copied by its authors from elsewhere"),
        Column("column", TEXT, "the column's heading"),
        Column("value", NUMBER, "the number", "as unit says"),
        Column("unit", TEXT, "what it is counted in"),
        Column("note", TEXT, "what is odd about the row"),
        Column("source", TEXT, "where it was printed"),
        Column("terms", TEXT, "what it rests on"),
    ),
    published,
)
