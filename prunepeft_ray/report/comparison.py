"""A study's methods compared: what each found, what it cost, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from prunepeft_ray.report.charges import (
    CELL,
    SEARCH,
    CostAccount,
    Tables,
    account,
    add_up,
    charged_jobs,
)
from prunepeft_ray.report.statistics import Difference, Estimate, correct, estimate, paired
from prunepeft_ray.results import ResultsStore

if TYPE_CHECKING:
    import pandas as pd

    from prunepeft_ray.results import RunFolder
    from prunepeft_ray.study import StudySpec

BASELINE = "prunepeft"
SINGLE = "single:"
BEST_BY_DEV, BEST_BY_TEST = "best single (dev)", "best single (oracle)"

Role = Literal["method", "choice", "oracle", "reference"]
ROLES: tuple[Role, ...] = ("method", "choice", "oracle", "reference")
Search = tuple[str, str, str, int]
"""Model, task, method and seed."""


@dataclass(frozen=True)
class MethodRow:
    """A method on a model and a task.

    Args:
        model: Backbone.
        task: Task.
        method: The method's label in the study, or what a made-up row is called.
        role: ``method``; ``reference``: may be above the budget; ``choice``: the best single criterion by dev;
            ``oracle``: by test, which nobody could know.
        chosen: The single criterion that a ``choice`` or ``oracle`` took.
        metric: The deciding metric.
        done: Searches that have ended with an architecture.
        failed: Searches that have failed.
        missing: Searches that have not ended.
        retrained: Finished retrainings.
        retrainings_failed: Retrainings that have failed.
        retrainings_missing: Retrainings of ended searches that are not there yet.
        dev: The deciding metric on dev: of every search the mean over its retrainings, then over searches.
        test: The same on test.
        tests: What ``test`` rests on, by seed of the search.
        retraining_deviation: Deviation on test among retrainings of the same choice, pooled over searches.
        parameters_min: Fewest parameters of a chosen architecture.
        parameters_max: Most.
        backbone_parameters: Parameters of the backbone without its head.
        budget: Most parameters allowed.
        search: Mean cost of a search, without retraining.
        search_ended: Whether that is the mean of searches that are done; if none is, it is of what there is so far.
        retraining: Mean cost of all retrainings of one search.
        single_retraining: Mean cost of one retraining.
        total: Everything charged: all searches, failed and unfinished ones too, and all retrainings.
        difference: Difference to ``prunepeft`` on test, paired on the seed; corrected for many tests among the rows of
            role ``method`` of this model and task.
        pareto: Whether no other row of this model and task has a better test mean at no more parameters, or fewer
            parameters at no worse a mean; never for a choice or an oracle, which stand for another row.
    """

    model: str
    task: str
    method: str
    role: Role
    metric: str | None
    done: int
    failed: int
    missing: int
    retrained: int
    retrainings_failed: int
    retrainings_missing: int
    dev: Estimate
    test: Estimate
    tests: Mapping[int, float]
    retraining_deviation: float | None
    parameters_min: int | None
    parameters_max: int | None
    backbone_parameters: int | None
    budget: int | None
    search: CostAccount
    search_ended: bool
    retraining: CostAccount
    single_retraining: CostAccount
    total: CostAccount
    chosen: str | None = None
    difference: Difference = field(default_factory=Difference)
    pareto: bool = False

    @property
    def within_budget(self) -> bool | None:
        """Whether every chosen architecture is within the budget; None if that is not known yet."""
        if self.parameters_max is None or self.budget is None:
            return None
        return self.parameters_max <= self.budget

    @property
    def percent(self) -> float | None:
        """The most parameters as a percentage of the backbone."""
        if self.parameters_max is None or not self.backbone_parameters:
            return None
        return 100 * self.parameters_max / self.backbone_parameters


@dataclass(frozen=True)
class OverallRow:
    """A method over all models and tasks.

    Args:
        method: The method.
        role: As in :class:`MethodRow`.
        places: Models and tasks, counted together, with a pair.
        difference: Difference to ``prunepeft`` on test, paired on model, task and seed; corrected for many tests among
            the rows of role ``method``.
    """

    method: str
    role: Role
    places: int
    difference: Difference


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
        """Return the rows as a table with a column for every number, such as ``test_mean`` or ``search_flops``."""
        return frame_of(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "rows": [asdict(row) | {"within_budget": row.within_budget, "percent": row.percent} for row in self.rows],
            "overall": [asdict(row) for row in self.overall],
            "computed": asdict(self.computed),
        }

    def overall_frame(self) -> pd.DataFrame:
        """Return the overall rows as a table."""
        return _flat(asdict(row) for row in self.overall)


def frame_of(rows: Iterable[MethodRow]) -> pd.DataFrame:
    """Return rows as a table with a column for every number, such as ``test_mean`` or ``search_flops``."""
    return _flat(
        {**asdict(replace(row, tests={})), "within_budget": row.within_budget, "percent": row.percent} for row in rows
    )


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
    charged, ended = charged_jobs(tables), tables.read("searches")
    seen = {*_keys(charged), *_keys(ended)}
    searches = {*planned, *seen} if planned else _product(seen)
    study = _Study(charged, ended)
    cells = sorted({search[:3] for search in searches})
    rows = [_row(study, *cell, seeds={search[3] for search in searches if search[:3] == cell}) for cell in cells]
    rows = [replace(row, pareto=_on_front(row, rows)) for row in rows]
    rows += _best_singles(rows)
    rows = sorted(_with_differences(rows), key=_order)
    once = charged.drop_duplicates("job_id")
    return Comparison(tuple(rows), _overall(rows), account(once, float((once.kind == "candidate").sum())))


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


def best_so_far(tables: Tables) -> pd.DataFrame:
    """Return for every search with candidates the best dev metric so far against what it had cost.

    Args:
        tables: The study's results.

    Returns:
        One row per evaluated candidate: model, task, method, seed, ``position``; cumulated over all that the search was
        told until then, retraining aside: ``evaluations``, ``examples``, ``epochs`` (passes over the training split),
        ``flops``, ``device_seconds``; ``value``: the best dev metric of a candidate within budget, NaN before there is
        one.

    Raises:
        InputError: If the store holds several studies.
        RunError: If a file is damaged.
    """
    jobs = charged_jobs(tables)
    jobs = jobs[jobs.kind != "final"]
    candidate = jobs.kind == "candidate"
    counts = jobs.dev.where(candidate & (jobs.parameters <= jobs.budget))
    running = jobs.assign(evaluations=candidate.astype("int64"), best=counts.fillna(-math.inf)).groupby(list(SEARCH))
    curves = jobs[[*SEARCH, "position"]].assign(
        evaluations=running.evaluations.cumsum(),
        examples=running.train_examples.cumsum(),
        epochs=running.passes.cumsum(),
        flops=running.flops.cumsum(),
        device_seconds=running.device_seconds.cumsum(),
        value=running.best.cummax().replace(-math.inf, math.nan),
    )
    return curves[candidate].reset_index(drop=True)


class _Study:
    """The store's frames by model, task and method, and what all of them share."""

    def __init__(self, charged: pd.DataFrame, ended: pd.DataFrame) -> None:
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
    values = good.groupby("seed")[["dev", "test"]].mean()
    measured = values.test.dropna()
    tests = {int(seed): float(value) for seed, value in zip(measured.index, measured, strict=True)}
    begun = {*charged.seed, *done, *failed}
    costs = {seed: _search_cost(charged, ended, seed) for seed in begun}
    costed = done or begun
    retrained = set(finals.seed)
    sizes = ended.parameters[ended.status == "done"] if done else good.parameters
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
        dev=estimate([float(value) for value in values.dev.dropna()]),
        test=estimate(list(tests.values())),
        tests=tests,
        retraining_deviation=_pooled_deviation(good),
        parameters_min=int(sizes.min()) if len(sizes) else None,
        parameters_max=int(sizes.max()) if len(sizes) else None,
        backbone_parameters=_whole(study.backbones.get(model)),
        budget=_whole(study.budgets.get(model)),
        search=add_up((costs[seed] for seed in costed), parts=len(costed)),
        search_ended=bool(done),
        retraining=add_up([account(finals)], parts=len(retrained)),
        single_retraining=add_up([account(finals)], parts=len(finals)),
        total=add_up([*costs.values(), account(finals)]),
    )


def _search_cost(charged: pd.DataFrame, ended: pd.DataFrame, seed: int) -> CostAccount:
    jobs = charged[(charged.seed == seed) & (charged.kind != "final")]
    end = ended[ended.seed == seed]
    if end.empty:
        return account(jobs, float((jobs.kind == "candidate").sum()))
    return account(jobs, float(end.evaluations.iloc[0]), float(end.proposal_seconds.iloc[0]))


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


def _with_differences(rows: list[MethodRow]) -> list[MethodRow]:
    baseline = {(row.model, row.task): row.tests for row in rows if row.method == BASELINE}
    compared = [
        row
        if row.method == BASELINE
        else replace(row, difference=paired(row.tests, baseline.get((row.model, row.task), {})))
        for row in rows
    ]
    families: dict[tuple[str, str], dict[str, Difference]] = {}
    for row in compared:
        # references stand outside the contest, and a choice repeats the test of the criterion that it took
        if row.role == "method":
            families.setdefault((row.model, row.task), {})[row.method] = row.difference
    corrected = {place: correct(family) for place, family in families.items()}
    return [
        replace(row, difference=corrected.get((row.model, row.task), {}).get(row.method, row.difference))
        for row in compared
    ]


def _overall(rows: list[MethodRow]) -> tuple[OverallRow, ...]:
    values: dict[str, dict[tuple[str, str, int], float]] = {}
    for row in rows:
        of_method = values.setdefault(row.method, {})
        of_method.update({(row.model, row.task, seed): value for seed, value in row.tests.items()})
    baseline = values.pop(BASELINE, None)
    if baseline is None:
        return ()
    roles = {row.method: row.role for row in rows}
    differences = {method: paired(own, baseline) for method, own in values.items()}
    differences |= correct({method: found for method, found in differences.items() if roles[method] == "method"})
    return tuple(
        OverallRow(method, roles[method], len({key[:2] for key in own if key in baseline}), differences[method])
        for method, own in values.items()
    )


def _order(row: MethodRow) -> tuple[str, str, int, bool, str]:
    return row.model, row.task, ROLES.index(row.role), row.method != BASELINE, row.method


def _flat(rows: Iterable[dict[str, object]]) -> pd.DataFrame:
    import pandas as pd

    return pd.json_normalize(list(rows), sep="_")
