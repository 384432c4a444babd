"""Frames on what methods found: every search's answer, differences, and metric against parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunepeft_ray.analysis.charges import SEARCH, search_costs
from prunepeft_ray.analysis.columns import NUMBER, TEXT, WHOLE, YES, fitted
from prunepeft_ray.analysis.frame import DerivedFrame
from prunepeft_ray.analysis.method_rows import BASELINE
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.analysis.statistics import SAME
from prunepeft_ray.pareto import hypervolume, pareto_front
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 0.1
"""How far the reference point of a hypervolume lies beyond the worst, as a share of budget and range of the metric."""
PLACE = ("model", "task")
_CELL_COLUMNS = (
    Column("model", TEXT, "backbone, as the user named it"),
    Column("task", TEXT, "task, as the user named it"),
    Column("method", TEXT, "the method's label in the study"),
)
_ROLE = Column("role", TEXT, "method, or reference: may end above the budget")
_SEED = Column("seed", WHOLE, "seed of the search")


def final_metrics(results: Results) -> pd.DataFrame:
    """Compute what every search found, and what it cost; planned searches without results are missing."""
    import pandas as pd

    keys, charged, ended = list(SEARCH), results["charges"], results.as_study.read("searches")
    finals = charged[(charged.kind == "final") & (charged.status == "done")]
    measured = finals.groupby(keys, as_index=False).agg(
        test=("test", "mean"), dev=("dev", "mean"), retrainings=("job_id", "size")
    )
    spent = search_costs(charged, ended)[[*keys, *_SPENT]]
    planned = pd.DataFrame(results.planned, columns=keys)
    frame = pd.concat([part[keys] for part in (planned, charged, ended) if len(part)]).drop_duplicates()
    for part in (ended[[*keys, "status", "parameters", "budget"]], measured, spent):
        frame = frame.merge(part, on=keys, how="left")
    failed = frame.status == "failed"
    references = set(ended.method[ended.reference])
    parameters = frame.parameters.where(frame.status == "done").astype("Int64")
    known = frame.assign(
        role=frame.method.isin(references).map({True: "reference", False: "method"}),
        status=frame.status.fillna("missing"),
        metric=_primary_metric(frame, charged),
        test=frame.test.mask(failed),
        dev=frame.dev.mask(failed),
        retrainings=frame.retrainings.fillna(0).astype("int64"),
        parameters=parameters,
        budget=frame.budget.astype("Int64"),
        within_budget=parameters <= frame.budget.astype("Int64"),
        **frame[list(_SPENT)].fillna(0.0),
    )
    return fitted(known.sort_values(keys, ignore_index=True), FINAL_METRICS.columns)


_SPENT = ("evaluations", "examples", "epochs", "flops", "device_seconds", "redone")


def _primary_metric(frame: pd.DataFrame, charged: pd.DataFrame) -> pd.Series[str]:
    metrics = charged.drop_duplicates([*PLACE])[[*PLACE, "metric"]]
    return frame[[*PLACE]].merge(metrics, on=list(PLACE), how="left").metric


FINAL_METRICS = DerivedFrame(
    "final_metrics",
    "One row per search, planned ones too: what it found, and what it cost.",
    (
        *_CELL_COLUMNS,
        _ROLE,
        _SEED,
        Column("status", TEXT, "done, failed or missing"),
        Column("metric", TEXT, "the primary metric"),
        Column("test", NUMBER, "the primary metric on test, mean over retrainings; null of a failed search"),
        Column("dev", NUMBER, "the same on dev"),
        Column("retrainings", WHOLE, "finished retrainings of its answer"),
        Column("parameters", WHOLE, "PEFT parameters of its answer"),
        Column("budget", WHOLE, "most that it may have"),
        Column("within_budget", YES, "whether it has no more"),
        Column("evaluations", WHOLE, "candidates that it evaluated"),
        Column("examples", NUMBER, "examples trained on by the search, retraining aside", "examples"),
        Column("epochs", NUMBER, "the same in passes over the training split"),
        Column("flops", NUMBER, "operations of training, retraining aside", "FLOP"),
        Column("device_seconds", NUMBER, "wall-clock time times devices, retraining aside", "s"),
        Column("redone", NUMBER, "examples trained on once more, in attempts that were lost", "examples"),
    ),
    final_metrics,
)


def differences(results: Results) -> pd.DataFrame:
    """List the differences of all methods to ``prunepeft``, by model and task and over all of them."""
    import pandas as pd

    methods = results["methods"]
    by_place = methods[methods.method != BASELINE].assign(pairs=methods.difference_n)
    overall = results["overall"].assign(model="all", task="all")
    found = pd.concat([by_place, overall]).rename(columns={f"difference_{name}": name for name in _OF_DIFFERENCE})
    return fitted(found.rename(columns={"mean": "difference"}), DIFFERENCES.columns)


_OF_DIFFERENCE = ("mean", "low", "high", "df", "p", "p_holm")
DIFFERENCES = DerivedFrame(
    "differences",
    "One row per model, task and method but `prunepeft`: the difference to it on test. Where model and task are `all`: "
    "over all of them.",
    (
        *_CELL_COLUMNS,
        Column("role", TEXT, "method, reference, choice (best single criterion by dev) or oracle (by test)"),
        Column("pairs", WHOLE, "pairs of searches with the same seed, model and task"),
        Column("difference", NUMBER, "mean difference, prunepeft subtracted"),
        Column("low", NUMBER, "lower end of its 95 % interval: for new seeds; over all, for new tasks"),
        Column("high", NUMBER, "upper end"),
        Column("df", NUMBER, "degrees of freedom of interval and test"),
        Column("p", NUMBER, "two-sided p of the test that there is no difference"),
        Column("p_holm", NUMBER, "the same corrected for all rows of role method of this model and task (Holm 1979)"),
    ),
    differences,
)


def points(results: Results) -> pd.DataFrame:
    """List all answers and candidates by parameters and metric."""
    import pandas as pd

    found = results["final_metrics"]
    answers = found[(found.status == "done") & found.test.notna()]
    answers = answers.assign(what="answer", split="test", value=answers.test)
    jobs = results["charges"]
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
    return fitted(both, POINTS.columns)


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
    "One row per architecture that was measured: the answer of a search, or a candidate.",
    (
        *_CELL_COLUMNS,
        _ROLE,
        _SEED,
        Column("what", TEXT, "answer or candidate"),
        Column("parameters", WHOLE, "PEFT parameters"),
        Column("value", NUMBER, "primary metric: of an answer mean over its retrainings"),
        Column("split", TEXT, "what that was measured on: test for answers, dev for candidates"),
        Column("budget", WHOLE, "most parameters that an answer may have"),
        Column("within_budget", YES, "whether it has no more"),
        Column(
            "front",
            YES,
            "whether it is within the budget and none has a better value at no more parameters or fewer at no worse a "
            "value: of answers among all methods with the same seed, of candidates among those of the same search",
        ),
    ),
    points,
)


def hypervolumes(results: Results) -> pd.DataFrame:
    """Compute for every search which share of metric and parameters its answer, and its candidates, dominate."""
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
    return fitted(pd.DataFrame(rows, columns=[column.name for column in HYPERVOLUMES.columns]), HYPERVOLUMES.columns)


def _value_shares(values: pd.Series[float], floor: float, best: float) -> Sequence[float]:
    """Scale values to 0 at the floor and 1 at the best; where all are equal, all are the best."""
    return [1.0] * len(values) if best - floor <= SAME else list((values - floor) / (best - floor))


HYPERVOLUMES = DerivedFrame(
    "hypervolumes",
    "One row per search and what it measured: what its answer, or its candidates, dominate in metric and parameters.",
    (
        *_CELL_COLUMNS,
        _ROLE,
        _SEED,
        Column("what", TEXT, "answer or candidate"),
        Column("split", TEXT, "what the metric was measured on: test for answers, dev for candidates"),
        Column("points", WHOLE, "points within the budget"),
        Column("front", WHOLE, "how many of them are on the front"),
        Column(
            "hypervolume",
            NUMBER,
            "dominated share of the rectangle between the reference point and the best value with no parameters",
        ),
        Column(
            "reference_parameters",
            NUMBER,
            "parameters of the reference point: a tenth more than the budget; the same for all methods of a place",
        ),
        Column(
            "reference_value",
            NUMBER,
            "value of the reference point: a tenth of the range below the worst of any method on this model and task",
        ),
        Column("best_value", NUMBER, "the best value of any method on this model and task"),
    ),
    hypervolumes,
)
