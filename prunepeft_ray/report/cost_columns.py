"""The costs of searches and retrainings, as columns of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

from prunepeft_ray.analysis.charges import CostAccount
from prunepeft_ray.analysis.method_rows import MethodRow
from prunepeft_ray.report.labels import NOTHING, _number_text
from prunepeft_ray.text import duration_text

Columns = Mapping[str, Callable[[MethodRow], str]]
"""Headings, and the functions that format the cells below them."""


def _charged_method(row: MethodRow) -> str:
    return row.method if row.search_ended or not row.search.jobs else f"{row.method} (so far)"


def _of_search(text: Callable[[CostAccount], str]) -> Callable[[MethodRow], str]:
    return lambda row: text(row.search) if row.search_ended or row.search.jobs else NOTHING


def _of_retrainings(text: Callable[[CostAccount], str]) -> Callable[[MethodRow], str]:
    return lambda row: text(row.retraining) if row.retraining.jobs else NOTHING


def _of_one_retraining(text: Callable[[CostAccount], str]) -> Callable[[MethodRow], str]:
    return lambda row: text(row.single_retraining) if row.single_retraining.jobs else NOTHING


def _evaluations(cost: CostAccount) -> str:
    return _number_text(cost.evaluations)


def _jobs(cost: CostAccount) -> str:
    return _number_text(cost.jobs)


def _examples(cost: CostAccount) -> str:
    return f"{cost.examples:,.0f}"


def _epochs(cost: CostAccount) -> str:
    return f"{cost.epochs:,.2f}"


def _steps(cost: CostAccount) -> str:
    return f"{cost.steps:,.0f}"


def _flops(cost: CostAccount) -> str:
    return f"{cost.flops:.2e}"


def _time(cost: CostAccount) -> str:
    return duration_text(cost.device_seconds)


def _wall_time(cost: CostAccount) -> str:
    return duration_text(cost.wall_seconds)


def _deciding(cost: CostAccount) -> str:
    return f"{cost.proposal_seconds:.1f} s" if cost.proposal_seconds < 10 else duration_text(cost.proposal_seconds)


def _memory(cost: CostAccount) -> str:
    mebibytes = cost.peak_memory_bytes / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.2f} GiB"


SEARCH: Callable[[MethodRow], CostAccount] = attrgetter("search")
RETRAINING: Callable[[MethodRow], CostAccount] = attrgetter("retraining")


def with_redone(columns: Columns, rows: Iterable[MethodRow], part: Callable[[MethodRow], CostAccount]) -> Columns:
    """Add a column of the examples that were trained on once more, if there are any.

    Args:
        columns: Columns of costs.
        rows: The rows of the table.
        part: Whose cost the columns say.
    """
    if not any(part(row).redone for row in rows):
        return columns
    return {**columns, "redone examples": lambda row: f"{part(row).redone:,.0f}"}


BRIEF_COSTS: Columns = {
    "method": _charged_method,
    "evaluations": _of_search(_evaluations),
    "epochs": _of_search(_epochs),
    "FLOP": _of_search(_flops),
    "time": _of_search(_time),
    "deciding": _of_search(_deciding),
    "retraining": _of_one_retraining(lambda cost: f"{_epochs(cost)} epochs, {_time(cost)}"),
}
SEARCH_COSTS: Columns = {
    "method": _charged_method,
    "evaluations": _of_search(_evaluations),
    "jobs": _of_search(_jobs),
    "examples": _of_search(_examples),
    "epochs": _of_search(_epochs),
    "steps": _of_search(_steps),
    "FLOP": _of_search(_flops),
    "time": _of_search(_time),
    "wall time": _of_search(_wall_time),
    "deciding": _of_search(_deciding),
    "peak memory": _of_search(_memory),
}
RETRAINING_COSTS: Columns = {
    "method": lambda row: row.method,
    "retrainings of a search": _of_retrainings(_jobs),
    "their epochs": _of_retrainings(_epochs),
    "their FLOP": _of_retrainings(_flops),
    "their time": _of_retrainings(_time),
    "examples of one": _of_one_retraining(_examples),
    "epochs of one": _of_one_retraining(_epochs),
    "steps of one": _of_one_retraining(_steps),
    "FLOP of one": _of_one_retraining(_flops),
    "time of one": _of_one_retraining(_time),
    "peak memory": _of_retrainings(_memory),
}
