"""A study's methods compared: what each found, what it cost, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from prunepeft_ray.analysis.charges import (
    CELL,
    SEARCH,
    CostAccount,
    Tables,
    account,
    add_up,
    charged_jobs,
    cumulated_costs,
    search_costs,
)
from prunepeft_ray.analysis.differences import overall_rows, with_differences
from prunepeft_ray.analysis.method_rows import BASELINE, ROLES, MethodRow, OverallRow, Role, frame_of, overall_frame_of
from prunepeft_ray.analysis.statistics import estimate_crossed
from prunepeft_ray.results import ResultsStore

if TYPE_CHECKING:
    import pandas as pd

    from prunepeft_ray.results import RunFolder
    from prunepeft_ray.study import StudySpec

SINGLE = "single:"
BEST_BY_DEV, BEST_BY_TEST = "best single (dev)", "best single (oracle)"

Search = tuple[str, str, str, int]
"""Model, task, method and seed."""


@dataclass(frozen=True)
class Comparison:
    """A study's methods compared.

    Args:
        rows: One per model, task and method.
        overall: One per method but ``prunepeft``; empty without ``prunepeft``.
        computed: What all jobs that were asked for cost, each counted once; searches are charged more where they
            share jobs.
    """

    rows: tuple[MethodRow, ...]
    overall: tuple[OverallRow, ...]
    computed: CostAccount

    def places(self) -> dict[tuple[str, str], tuple[MethodRow, ...]]:
        """Return the rows by model and task."""
        keys = dict.fromkeys((row.model, row.task) for row in self.rows)
        return {key: tuple(row for row in self.rows if (row.model, row.task) == key) for key in keys}

    def frame(self) -> pd.DataFrame:
        """Return the rows as a table with a column for every number: the frame ``methods``."""
        return frame_of(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "rows": [asdict(row) | {"tests": row.tests} for row in self.rows],
            "overall": [asdict(row) for row in self.overall],
            "computed": asdict(self.computed),
        }

    def overall_frame(self) -> pd.DataFrame:
        """Return the overall rows as a table: the frame ``overall``."""
        return overall_frame_of(self.overall)


def compare_methods(tables: Tables, planned: Iterable[Search] = ()) -> Comparison:
    """Compare a study's methods by what is in the store so far.

    Args:
        tables: The study's results.
        planned: All searches of the study, so that those which have not begun count as missing. Without, every method
            seen is expected on every model and task seen, with every seed seen.

    Raises:
        InputError: If the store holds several studies.
        RunError: If a file is damaged.
    """
    return compare(charged_jobs(tables), tables.read("searches"), planned)


def compare(charged: pd.DataFrame, ended: pd.DataFrame, planned: Iterable[Search] = ()) -> Comparison:
    """Compare a study's methods by its frames.

    Args:
        charged: The frame ``charges``.
        ended: The table ``searches``.
        planned: As in :func:`compare_methods`.
    """
    seen = {*_keys(charged), *_keys(ended)}
    searches = {*planned, *seen} if planned else _product(seen)
    study = _Study(charged, ended)
    cells = sorted({search[:3] for search in searches})
    rows = [_row(study, *cell, seeds={search[3] for search in searches if search[:3] == cell}) for cell in cells]
    rows = [replace(row, pareto=_on_front(row, rows)) for row in rows]
    rows += _best_singles(rows)
    rows = sorted(with_differences(rows), key=_order)
    once = charged.drop_duplicates("job_id")
    return Comparison(tuple(rows), overall_rows(rows), account(once))


def compare_study(folder: RunFolder) -> Comparison:
    """Compare a study's methods by what its folder has so far; searches that have not begun count as missing.

    Raises:
        InputError: If the folder holds no study.
        RunError: If a file is damaged.
    """
    return compare_methods(ResultsStore(folder.results), planned_searches(folder.study))


def planned_searches(study: StudySpec) -> list[Search]:
    """Return all searches of a study."""
    return [(cell.model, cell.task.name, cell.method.label, cell.seed) for cell in study.cells()]


def best_so_far(charged: pd.DataFrame) -> pd.DataFrame:
    """Return for every search with candidates the best dev metric so far against what it had cost.

    Args:
        charged: The frame ``charges``.

    Returns:
        One row per evaluated candidate: model, task, method, seed, ``position``; cumulated over all that the search was
        told until then, retraining aside: ``evaluations``, ``examples``, ``epochs`` (passes over the training split),
        ``flops``, ``device_seconds``; ``value``: the best dev metric of a candidate within budget, NaN before there is
        one.
    """
    jobs = charged[charged.kind != "final"]
    candidate = jobs.kind == "candidate"
    counts = jobs.dev.where(candidate & (jobs.parameters <= jobs.budget))
    running = jobs.assign(evaluations=candidate.astype("int64"), best=counts.fillna(-math.inf)).groupby(list(SEARCH))
    curves = jobs[[*SEARCH, "position"]].assign(
        evaluations=running.evaluations.cumsum(),
        **cumulated_costs(jobs, SEARCH),
        value=running.best.cummax().replace(-math.inf, math.nan),
    )
    return curves[candidate].reset_index(drop=True)


class _Study:
    """The store's frames by model, task and method, and what all of them share."""

    def __init__(self, charged: pd.DataFrame, ended: pd.DataFrame) -> None:
        costs = search_costs(charged, ended).set_index(list(SEARCH))
        rows: list[dict[Any, Any]] = costs.to_dict("records")
        self.costs = {key: CostAccount(**row) for key, row in zip(costs.index, rows, strict=True)}
        self._charged = dict(tuple(charged.groupby(list(CELL))))
        self._ended = dict(tuple(ended.groupby(list(CELL))))
        self._no_jobs, self._no_ends = charged.iloc[:0], ended.iloc[:0]
        self.retrain_seeds = charged.retrain_seed.dropna().nunique()
        places = charged.drop_duplicates(["model", "task"], keep="last")
        self.backbones = dict(zip(places.model, places.backbone_parameters, strict=True))
        self.budgets = dict(zip(places.model, places.budget, strict=True)) | dict(
            zip(ended.model, ended.budget, strict=True)
        )
        self.metrics = dict(zip(zip(places.model, places.task, strict=True), places.metric, strict=True))
        self.references = set(ended.method[ended.reference])

    def charged(self, cell: tuple[str, str, str]) -> pd.DataFrame:
        return self._charged.get(cell, self._no_jobs)

    def ended(self, cell: tuple[str, str, str]) -> pd.DataFrame:
        return self._ended.get(cell, self._no_ends)


def _keys(frame: pd.DataFrame) -> list[Search]:
    searches = frame[list(SEARCH)].drop_duplicates()
    return [(model, task, method, int(seed)) for model, task, method, seed in searches.itertuples(index=False)]


def _product(seen: set[Search]) -> set[Search]:
    places, methods, seeds = {search[:2] for search in seen}, {search[2] for search in seen}, {s[3] for s in seen}
    return {(*place, method, seed) for place in places for method in methods for seed in seeds}


def _row(study: _Study, model: str, task: str, method: str, *, seeds: set[int]) -> MethodRow:
    cell = (model, task, method)
    charged, ended = study.charged(cell), study.ended(cell)
    done, failed = set(ended.seed[ended.status == "done"]), set(ended.seed[ended.status == "failed"])
    finals = charged[charged.kind == "final"]
    good = finals[(finals.status == "done") & ~finals.seed.isin(failed)]
    measured = _by_seeds(good, "test")
    begun = {*charged.seed, *done, *failed}
    costs = {seed: study.costs[(*cell, seed)] for seed in begun}
    costed = done or begun
    retrained = set(finals.seed)
    sizes = ended.parameters[ended.status == "done"] if done else good.parameters
    most = int(sizes.max()) if len(sizes) else None
    backbone, budget = _whole(study.backbones.get(model)), _whole(study.budgets.get(model))
    told = finals[finals.seed.isin(done)]
    return MethodRow(
        model=model,
        task=task,
        method=method,
        role="reference" if method in study.references else "method",
        metric=study.metrics.get((model, task)),
        done=len(done),
        failed=len(failed),
        missing=len(seeds - done - failed),
        retrained=len(good),
        retrainings_failed=int((finals.status == "failed").sum()),
        retrainings_missing=max(0, len(done) * study.retrain_seeds - len(told)),
        dev=estimate_crossed(_by_seeds(good, "dev")),
        test=estimate_crossed(measured),
        measured=measured,
        retraining_deviation=_pooled_deviation(good),
        parameters_min=int(sizes.min()) if len(sizes) else None,
        parameters_max=most,
        percent=100 * most / backbone if most is not None and backbone else None,
        backbone_parameters=backbone,
        budget=budget,
        within_budget=None if most is None or budget is None else most <= budget,
        search=add_up((costs[seed] for seed in costed), parts=len(costed)),
        search_ended=bool(done),
        retraining=add_up([account(finals)], parts=len(retrained)),
        single_retraining=add_up([account(finals)], parts=len(finals)),
        total=add_up([*costs.values(), account(finals)]),
    )


def _by_seeds(finals: pd.DataFrame, split: str) -> dict[int, dict[int, float]]:
    found: dict[int, dict[int, float]] = {}
    known = finals.dropna(subset=split).sort_values(["seed", "retrain_seed"])
    for seed, retrain_seed, value in zip(known.seed, known.retrain_seed, known[split], strict=True):
        found.setdefault(int(seed), {})[int(retrain_seed)] = float(value)
    return found


def _pooled_deviation(finals: pd.DataFrame) -> float | None:
    variances = finals.groupby("seed").test.var(ddof=1).dropna()
    return math.sqrt(float(variances.mean())) if len(variances) else None


def _whole(number: int | None) -> int | None:
    return None if number is None else int(number)


def _on_front(row: MethodRow, rows: Iterable[MethodRow]) -> bool:
    here = _point(row)
    if here is None:
        return False
    rivals = [_point(other) for other in rows if (other.model, other.task) == (row.model, row.task)]
    return not any(p != here and p[0] >= here[0] and p[1] <= here[1] for p in rivals if p is not None)


def _point(row: MethodRow) -> tuple[float, int] | None:
    if row.test.mean is None or row.parameters_max is None:
        return None
    return row.test.mean, row.parameters_max


def _best_singles(rows: list[MethodRow]) -> list[MethodRow]:
    found = []
    for place in dict.fromkeys((row.model, row.task) for row in rows):
        singles = [row for row in rows if (row.model, row.task) == place and row.method.startswith(SINGLE)]
        scored = [row for row in singles if row.dev.mean is not None and row.test.mean is not None]
        if len(scored) < 2:
            continue
        found.append(_chosen(BEST_BY_DEV, "choice", max(scored, key=lambda row: row.dev.mean or 0.0), singles))
        found.append(_chosen(BEST_BY_TEST, "oracle", max(scored, key=lambda row: row.test.mean or 0.0), singles))
    return found


def _chosen(name: str, role: Role, best: MethodRow, singles: list[MethodRow]) -> MethodRow:
    """Make the row of a choice among single criteria: the numbers of one, the cost of all, retraining included."""
    return replace(
        best,
        method=name,
        role=role,
        chosen=best.method,
        done=sum(row.done for row in singles),
        failed=sum(row.failed for row in singles),
        missing=sum(row.missing for row in singles),
        search=add_up(row.search for row in singles),
        search_ended=all(row.search_ended for row in singles),
        retraining=add_up(row.retraining for row in singles),
        total=add_up(row.total for row in singles),
        pareto=False,
    )


def _order(row: MethodRow) -> tuple[str, str, int, bool, str]:
    return row.model, row.task, ROLES.index(row.role), row.method != BASELINE, row.method
