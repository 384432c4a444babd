"""The data behind the numbers of a figure or table, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prunepeft_ray.analysis.charges import CELL, SEARCH
from prunepeft_ray.analysis.comparison import planned_searches
from prunepeft_ray.analysis.method_rows import MethodRow
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.analysis.searches import UNFINISHED
from prunepeft_ray.report.blocks import Basis
from prunepeft_ray.report.labels import notes_text
from prunepeft_ray.study import StudySpec

if TYPE_CHECKING:
    import pandas as pd


def basis_of(results: Results, rows: Sequence[MethodRow], split: str) -> Basis:
    """Describe the data behind numbers of methods.

    Args:
        results: The run or study.
        rows: The methods.
        split: Split on which they were measured.
    """
    counts = sorted({row.test.n for row in rows})
    searches = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "0"
    requests = results.as_study.read("requests")
    retrainings = max(int(requests.retrain_seed.nunique()), 1)
    marks = [f"{row.method}: {notes_text(row)}" for row in rows if notes_text(row) not in ("", "front")]
    return Basis(
        n=f"{searches} searches per method, each retrained under {retrainings} seed{'s' if retrainings > 1 else ''}",
        seeds=", ".join(map(str, sorted(requests.seed.unique()))) or "none yet",
        fidelity=retraining_fidelity(results),
        split=split,
        marks=tuple(marks),
    )


def retraining_fidelity(results: Results) -> str:
    """Describe how much the final retrainings train."""
    jobs = results["jobs"]
    finals = jobs[jobs.kind == "final"]
    if finals.empty:
        return "no retraining has finished yet"
    sizes, epochs = sorted(finals.task_train_size.unique()), sorted(finals.epochs.unique())
    listed = " or ".join(f"{size:,}" for size in sizes)
    return f"retrained on all {listed} training examples, at most {' or '.join(map(str, epochs))} epochs"


def candidate_fidelity(results: Results) -> str:
    """Describe how much candidates were trained."""
    jobs = results["jobs"]
    jobs = jobs[jobs.kind == "candidate"]
    sizes = jobs.train_size.fillna(jobs.task_train_size).astype("int64")
    ranges = [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in _ends(sizes, jobs.epochs)]
    return f"candidates trained on {ranges[0]} examples, at most {ranges[1]} epochs" if len(jobs) else "no candidate"


def _ends(*columns: pd.Series[int]) -> list[tuple[int, int]]:
    return [(int(column.min()), int(column.max())) if len(column) else (0, 0) for column in columns]


def basis_of_searches(results: Results, rows: pd.DataFrame, split: str, *marks: str) -> Basis:
    """Describe the data behind numbers of searches.

    Args:
        results: The run or study.
        rows: Rows with model, task, method and seed of the searches, and the ``fidelity`` of their jobs.
        split: Split on which they were measured.
        marks: Further caveats.
    """
    searches = rows[list(SEARCH)].drop_duplicates()
    per_method = searches.groupby(list(CELL)).size()
    fewest, most = per_method.min(), per_method.max()
    number = str(most) if fewest == most else f"{fewest} to {most}"
    whose = f"of {searches.method.iloc[0]}" if searches.method.nunique() == 1 else "per method"
    places = searches.task.nunique()
    return Basis(
        n=f"{number} {'search' if most == 1 else 'searches'} {whose}{' on each task' if places > 1 else ''}",
        seeds=", ".join(str(seed) for seed in sorted(set(searches.seed))),
        fidelity="; ".join(sorted(set(rows.fidelity.dropna()))) or "unknown: the jobs are not in the store",
        split=split,
        marks=(*_states(results, searches), *marks),
    )


def _states(results: Results, counted: pd.DataFrame) -> Iterator[str]:
    """Describe which searches of the same models, tasks and methods are not done, and whether they are counted."""
    known = results["search_states"]
    known = known.merge(counted[list(CELL)].drop_duplicates(), on=list(CELL))
    known = known.merge(counted.assign(counts=True), on=list(SEARCH), how="left")
    for state in (UNFINISHED, "failed"):
        of_state = known[known.status == state]
        if len(of_state):
            left_out = int(of_state.counts.isna().sum())
            note = (
                f", {'left out' if left_out == len(of_state) else f'{left_out} of them left out'}" if left_out else ""
            )
            yield f"searches {state}: {len(of_state)}{note}"
    spec = results.spec
    planned = planned_searches(spec) if isinstance(spec, StudySpec) else []
    cells = set(counted[list(CELL)].itertuples(index=False, name=None))
    if (waiting := sum(search[:3] in cells for search in planned) - len(known)) > 0:
        yield f"searches not started: {waiting}"
