"""Frames on what methods found: every search's answer, differences, and metric against parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunepeft_ray.pareto import hypervolume, pareto_front
from prunepeft_ray.report.charges import SEARCH, charged_jobs
from prunepeft_ray.report.comparison import BASELINE, MethodRow, OverallRow
from prunepeft_ray.report.opening import DerivedFrame, Results
from prunepeft_ray.report.statistics import SAME
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 0.1
"""How far the reference point of a hypervolume lies beyond the worst, as a share of budget and range of the metric."""
PLACE = ("model", "task")
_CELL_COLUMNS = (
    Column("model", "string", "backbone, as the user named it"),
    Column("task", "string", "task, as the user named it"),
    Column("method", "string", "the method's label in the study"),
)
_ROLE = Column("role", "string", "method, or reference: may end above the budget")
_SEED = Column("seed", "int64", "seed of the search")


def final_metrics(results: Results) -> pd.DataFrame:
    """Work out what every search found, and what it cost; planned searches without results are missing."""
    import pandas as pd

    keys, tables = list(SEARCH), results.as_study
    charged, ended = charged_jobs(tables), tables.read("searches")
    finals = charged[(charged.kind == "final") & (charged.status == "done")]
    measured = finals.groupby(keys, as_index=False).agg(
        test=("test", "mean"), dev=("dev", "mean"), retrainings=("job_id", "size")
    )
    spent = _spent(charged[charged.kind != "final"])
    planned = pd.DataFrame(results.planned, columns=keys)
    frame = pd.concat([part[keys] for part in (planned, charged, ended) if len(part)]).drop_duplicates()
    for part in (ended[[*keys, "status", "parameters", "budget", "evaluations"]], measured, spent):
        frame = frame.merge(part, on=keys, how="left")
    failed = frame.status == "failed"
    references = set(ended.method[ended.reference])
    parameters = frame.parameters.where(frame.status == "done").astype("Int64")
    return frame.assign(
        role=frame.method.isin(references).map({True: "reference", False: "method"}),
        status=frame.status.fillna("missing"),
        metric=_deciding_metric(frame, charged),
        test=frame.test.mask(failed),
        dev=frame.dev.mask(failed),
        retrainings=frame.retrainings.fillna(0).astype("int64"),
        parameters=parameters,
        budget=frame.budget.astype("Int64"),
        within_budget=parameters <= frame.budget.astype("Int64"),
        evaluations=frame.evaluations.fillna(frame.candidates).fillna(0).astype("int64"),
        **{name: frame[name].fillna(0.0) for name in _SPENT},
    ).sort_values(keys, ignore_index=True)[[column.name for column in FINAL_METRICS.columns]]


_SPENT = {"examples": "train_examples", "epochs": "passes", "flops": "flops", "device_seconds": "device_seconds"}


def _spent(jobs: pd.DataFrame) -> pd.DataFrame:
    sums = {name: (column, "sum") for name, column in _SPENT.items()}
    counted = jobs.assign(candidates=jobs.kind == "candidate").groupby(list(SEARCH), as_index=False)
    return counted.agg(candidates=("candidates", "sum"), **sums)


def _deciding_metric(frame: pd.DataFrame, charged: pd.DataFrame) -> pd.Series[str]:
    metrics = charged.drop_duplicates([*PLACE])[[*PLACE, "metric"]]
    return frame[[*PLACE]].merge(metrics, on=list(PLACE), how="left").metric


FINAL_METRICS = DerivedFrame(
    "final_metrics",
    "what one search found, and what it cost; also of planned searches without results yet",
    (
        *_CELL_COLUMNS,
        _ROLE,
        _SEED,
        Column("status", "string", "done, failed or missing"),
        Column("metric", "string", "the deciding metric"),
        Column("test", "double", "the deciding metric on test, mean over retrainings; null of a failed search"),
        Column("dev", "double", "the same on dev"),
        Column("retrainings", "int64", "finished retrainings of its answer"),
        Column("parameters", "int64", "PEFT parameters of its answer"),
        Column("budget", "int64", "most that it may have"),
        Column("within_budget", "bool", "whether it has no more"),
        Column("evaluations", "int64", "candidates that it evaluated"),
        Column("examples", "double", "examples trained on by the search, retraining aside", "examples"),
        Column("epochs", "double", "the same in passes over the training split"),
        Column("flops", "double", "operations of training, retraining aside", "FLOP"),
        Column("device_seconds", "double", "wall-clock time times devices, retraining aside", "s"),
    ),
    final_metrics,
)


def differences(results: Results) -> pd.DataFrame:
    """List the differences of all methods to ``prunepeft``, by model and task and over all of them."""
    import pandas as pd

    comparison = results.comparison
    by_place = [((row.model, row.task), row) for row in comparison.rows if row.method != BASELINE]
    overall = [(("all", "all"), row) for row in comparison.overall]
    found: list[tuple[tuple[str, str], MethodRow | OverallRow]] = [*by_place, *overall]
    rows = [
        (*place, row.method, row.role, row.difference.n, *(getattr(row.difference, name) for name in _OF_DIFFERENCE))
        for place, row in found
    ]
    frame = pd.DataFrame(rows, columns=[column.name for column in DIFFERENCES.columns])
    return frame.astype(dict.fromkeys(("difference", *_OF_DIFFERENCE[1:]), "float64"))


_OF_DIFFERENCE = ("mean", "low", "high", "p", "p_holm")
DIFFERENCES = DerivedFrame(
    "differences",
    "how a method differs from prunepeft on test, on one model and task or (both 'all') over all of them",
    (
        *_CELL_COLUMNS,
        Column("role", "string", "method, reference, choice (best single criterion by dev) or oracle (by test)"),
        Column("pairs", "int64", "pairs of searches with the same seed, model and task"),
        Column("difference", "double", "mean difference, prunepeft subtracted"),
        Column("low", "double", "lower end of its 95 % interval by Student's t"),
        Column("high", "double", "upper end"),
        Column("p", "double", "two-sided p of the paired t-test"),
        Column("p_holm", "double", "the same corrected for all rows of role method of this model and task (Holm 1979)"),
    ),
    differences,
)


def points(results: Results) -> pd.DataFrame:
    """List all answers and candidates by parameters and metric."""
    import pandas as pd

    found = results["final_metrics"]
    answers = found[(found.status == "done") & found.test.notna()]
    answers = answers.assign(what="answer", split="test", value=answers.test)
    jobs = charged_jobs(results.as_study)
    jobs = jobs[(jobs.kind == "candidate") & jobs.dev.notna()]
    roles = dict(zip(found.method, found.role, strict=True))
    candidates = jobs.assign(what="candidate", split="dev", value=jobs.dev, role=jobs.method.map(roles))
    columns = [column.name for column in POINTS.columns if column.name not in ("within_budget", "front")]
    both = pd.concat([part[columns] for part in (answers, candidates) if len(part) or part is answers])
    both = both.astype({"parameters": "int64", "budget": "int64"}).sort_values(
        [*PLACE, "what", "method", "seed"], ignore_index=True, kind="stable"
    )
    both["within_budget"] = both.parameters <= both.budget
    both["front"] = _on_fronts(both[both.within_budget]).reindex(both.index, fill_value=False)
    return both


def _on_fronts(within: pd.DataFrame) -> pd.Series[bool]:
    """Mark what nothing beats: answers among those of the same seed, candidates among those of the same search."""
    import pandas as pd

    rival = within.method.where(within.what == "candidate", "")
    front: list[int] = []
    for _, group in within.groupby([within.model, within.task, within.what, within.seed, rival]):
        values, costs = (dict(zip(group.index, group[name], strict=True)) for name in ("value", "parameters"))
        front += pareto_front(values, costs.__getitem__)
    return pd.Series(within.index.isin(front), index=within.index)


POINTS = DerivedFrame(
    "points",
    "an architecture that was measured: the answer of a search, or a candidate",
    (
        *_CELL_COLUMNS,
        _ROLE,
        _SEED,
        Column("what", "string", "answer or candidate"),
        Column("parameters", "int64", "PEFT parameters"),
        Column("value", "double", "deciding metric: of an answer mean over its retrainings"),
        Column("split", "string", "what that was measured on: test for answers, dev for candidates"),
        Column("budget", "int64", "most parameters that an answer may have"),
        Column("within_budget", "bool", "whether it has no more"),
        Column(
            "front",
            "bool",
            "whether it is within the budget and none has a better value at no more parameters or fewer at no worse a "
            "value: of answers among all methods with the same seed, of candidates among those of the same search",
        ),
    ),
    points,
)


def hypervolumes(results: Results) -> pd.DataFrame:
    """Work out for every search which share of metric and parameters its answer, and its candidates, dominate."""
    import pandas as pd

    within = results["points"]
    within = within[within.within_budget]
    rows = []
    for (model, task, what), here in within.groupby([*PLACE, "what"]):
        limit = (1 + MARGIN) * float(here.budget.iloc[0])
        best, worst = float(here.value.max()), float(here.value.min())
        floor = worst - MARGIN * (best - worst)
        for (method, seed), own in here.groupby(["method", "seed"]):
            shares = _value_shares(own.value, floor, best)
            found = hypervolume(list(zip(shares, own.parameters / limit, strict=True)), (0.0, 1.0))
            first = own.iloc[0]
            known = (model, task, method, first.role, seed, what, first.split, len(own), int(own.front.sum()))
            rows.append((*known, found, limit, floor, best))
    return pd.DataFrame(rows, columns=[column.name for column in HYPERVOLUMES.columns])


def _value_shares(values: pd.Series[float], floor: float, best: float) -> Sequence[float]:
    """Scale values to 0 at the floor and 1 at the best; where all are equal, all are the best."""
    return [1.0] * len(values) if best - floor <= SAME else list((values - floor) / (best - floor))


HYPERVOLUMES = DerivedFrame(
    "hypervolumes",
    "what one search's answer, or its candidates, dominate in metric and parameters",
    (
        *_CELL_COLUMNS,
        _ROLE,
        _SEED,
        Column("what", "string", "answer or candidate"),
        Column("split", "string", "what the metric was measured on: test for answers, dev for candidates"),
        Column("points", "int64", "points within the budget"),
        Column("front", "int64", "how many of them are on the front"),
        Column(
            "hypervolume",
            "double",
            "dominated share of the rectangle between the reference point and the best value with no parameters",
        ),
        Column(
            "reference_parameters",
            "double",
            "parameters of the reference point: a tenth more than the budget; the same for all methods of a place",
        ),
        Column(
            "reference_value",
            "double",
            "value of the reference point: a tenth of the range below the worst of any method on this model and task",
        ),
        Column("best_value", "double", "the best value of any method on this model and task"),
    ),
    hypervolumes,
)
