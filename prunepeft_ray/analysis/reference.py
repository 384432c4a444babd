"""What docs/results.md says: every table and every derived frame, column by column."""

from __future__ import annotations

from prunepeft_ray.analysis.catalog import DERIVED
from prunepeft_ray.results import READABLE, SCHEMA_VERSION, TABLES, columns_markdown

_TABLES = f"""# The results store

A run keeps its results in `DIR/results/TABLE/*.parquet`, one file per job (for `decisions`: per round or warm-up
turn; for `requests`: per job that a search of a study was told; for `searches`: per search of a study that has
ended). A file is written whole or not at all, and never changed, but for that of a search which ends once more. A job
whose row stands in `jobs` is finished. In a study a job that several searches ask for runs once: what a search cost
is the sum over its rows in `requests`, joined with `jobs` on `job_id`.

`open_results(DIR)[TABLE]` is a table as a pandas frame; so is every [derived frame](#derived-frames). Without this
package, read a table with `pandas.read_parquet`, `pyarrow.dataset` or DuckDB, as one folder. [Analysis](analysis.md)
has examples.

Where files are many, `DIR/results/merged/TABLE/` holds copies of their rows in few files, for quick reading. They are
made while a run is in progress and when it ends, count only for files that are still there unchanged, and may be
deleted at any time.

`open_results` leaves out a file that is damaged, and names it in `.damaged`. `prunepeft resume` does not resume over a
damaged file: it names it, and redoes that part once it is deleted.

Schema version {SCHEMA_VERSION}, kept in every file's metadata as `prunepeft_schema_version`; this version of the
package reads {" and ".join(map(str, READABLE))}. A column that an older file does not have is null.

# Tables
"""

_DERIVED = """# Derived frames

`open_results(DIR)[NAME]` computes these from the tables; for a search by itself as for a study of one.
"""


def results_markdown() -> str:
    """Describe all tables and derived frames in Markdown; docs/results.md is this text."""
    tables = [f"## {name}\n\n{columns_markdown(columns)}" for name, columns in TABLES.items()]
    derived = [f"## {frame.name}\n\n{frame.meaning}\n\n{columns_markdown(frame.columns)}" for frame in DERIVED.values()]
    return "\n".join([_TABLES, *tables, _DERIVED, *derived])
