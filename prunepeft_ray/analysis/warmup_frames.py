"""What the criteria did in the warm-up: which slots each removes, and where it was put to judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from prunepeft_ray.analysis.charges import CELL, SEARCH
from prunepeft_ray.analysis.columns import fitted
from prunepeft_ray.analysis.frame import DerivedFrame
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.analysis.searches import CELL_COLUMNS, SLOT_COLUMNS, decided
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd

_CRITERION = Column("criterion", pa.string(), "pruning criterion")
_SEARCHES = Column("searches", pa.int64(), "searches that this rests on")


def _turns(results: Results) -> pd.DataFrame:
    """The decisions of warm-ups, each with the one criterion that made it."""
    turns = decided(results, "warmup")
    return turns.assign(criterion=turns.criteria.str[0]).drop(columns="criteria")


def _ratios(results: Results) -> pd.DataFrame:
    turns = _turns(results)
    if turns.empty:
        return fitted(turns, RATIOS.columns)
    counts = turns.groupby([*CELL, "criterion", "kind", "layer", "slot"])
    frame = counts.agg(turns=("removed", "size"), removed=("removed", "sum"), searches=("seed", "nunique"))
    frame["ratio"] = frame.removed / frame.turns
    return fitted(frame.reset_index(), RATIOS.columns)


def _tendencies(results: Results) -> pd.DataFrame:
    turns = _turns(results)
    if turns.empty:
        return fitted(turns, TENDENCIES.columns)
    cells = turns.groupby(list(CELL))
    facts = cells.agg(searches=("seed", "nunique")).join(_warm_ups(turns)).reset_index()
    # a criterion that removed nothing of a partition says something too
    pairs = facts.merge(turns[[*CELL, "partition", "block", "kind"]].drop_duplicates(), on=list(CELL))
    pairs = pairs.merge(turns[[*CELL, "criterion"]].drop_duplicates(), on=list(CELL))
    by = [*CELL, "partition", "criterion"]
    removed = turns.groupby(by).removed.sum().rename("removed")
    frame = pairs.join(removed, on=by).join(_assigned(results), on=by).join(_losses(results, turns), on=by)
    frame["removed"] = frame.removed.fillna(0).astype("int64")
    frame["share"] = frame.removed / frame.groupby([*CELL, "criterion"]).removed.transform("sum")
    judged = frame.groupby([*CELL, "partition"]).assigned.transform("max").notna()
    frame["assigned"] = frame.assigned.fillna(0.0).where(judged)
    return fitted(frame.sort_values([*CELL, "block", "kind", "criterion"]), TENDENCIES.columns)


def _warm_ups(turns: pd.DataFrame) -> pd.Series[int]:
    """How often a search began a warm-up: a criterion judges a slot once in each first turn."""
    first = turns[turns.turn == 1].groupby([*SEARCH, "criterion", "slot"]).size()
    return first.groupby(list(CELL)).max().rename("warm_ups")


def _assigned(results: Results) -> pd.Series[float]:
    """The share of rounds in which a criterion judged a partition, by cell, partition and criterion."""
    judged = decided(results, "round").drop_duplicates([*SEARCH, "turn", "partition"])
    rounds = judged.groupby([*CELL, "partition"]).size().rename("rounds")
    times = judged.explode("criteria").groupby([*CELL, "partition", "criteria"]).size().rename("times")
    counts = times.reset_index().join(rounds, on=[*CELL, "partition"]).rename(columns={"criteria": "criterion"})
    counts["assigned"] = counts.times / counts["rounds"]
    return counts.set_index([*CELL, "partition", "criterion"]).assigned


def _losses(results: Results, turns: pd.DataFrame) -> pd.Series[float]:
    """The held-out loss of a warm-up by effectiveness, by cell, partition and criterion.

    A decision rests on the job that scored the slots; the job that measured its removals is the one of the same search
    that trained all other slots.
    """
    import pandas as pd

    jobs, asked = results["jobs"], results.as_study.read("requests")
    held_out = jobs[(jobs.evaluate == "holdout") & (jobs.status == "done")]
    filled = results["architectures"]
    filled = filled[filled.job_id.isin(held_out.job_id)]
    slots = {str(job): frozenset(of_job) for job, of_job in filled.groupby("job_id").slot}
    loss = {str(job): metrics.get("loss") for job, metrics in zip(held_out.job_id, held_out.metrics, strict=True)}
    trials = asked[asked.job_id.isin(slots) & ~asked.job_id.isin(turns.job_id.unique())]
    measured = {
        (model, task, method, seed, slots[job]): loss[job]
        for model, task, method, seed, job in trials[[*SEARCH, "job_id"]].itertuples(index=False, name=None)
    }
    by = [*SEARCH, "partition", "criterion", "job_id"]
    gone = turns[turns.removed & turns.job_id.isin(slots)].groupby(by).slot.agg(frozenset)
    found = gone.reset_index()
    kept = [slots[job] - removed for job, removed in zip(found.job_id, found.slot, strict=True)]
    keys = zip(found.model, found.task, found.method, found.seed, kept, strict=True)
    found["loss"] = pd.Series([measured.get(key) for key in keys], dtype="float64")
    return found.groupby([*CELL, "partition", "criterion"]).loss.mean()


RATIOS = DerivedFrame(
    "pruning_ratios",
    "a criterion and a slot in the warm-ups of a method on a task and a model (paper, Fig. 1a)",
    (
        *CELL_COLUMNS,
        _CRITERION,
        *SLOT_COLUMNS,
        Column("turns", pa.int64(), "warm-up turns in which the slot stood and the criterion judged it"),
        Column("removed", pa.int64(), "turns in which the criterion removed it"),
        Column("ratio", pa.float64(), "the share of the two"),
        _SEARCHES,
    ),
    _ratios,
)

TENDENCIES = DerivedFrame(
    "tendencies",
    "a criterion and a partition in the warm-ups of a method on a task and a model (paper, Fig. 1b)",
    (
        *CELL_COLUMNS,
        Column("partition", pa.string(), "partition, as block.kind"),
        Column("block", pa.int32(), "0-based block of layers"),
        Column("kind", pa.string(), "slot kind"),
        _CRITERION,
        Column("removed", pa.int64(), "slots of the partition that the criterion removed in warm-ups"),
        Column("share", pa.float64(), "the same as a share of all that it removed there"),
        Column("loss", pa.float64(), "mean held-out loss after its removals in the partition; null unless measured"),
        Column("assigned", pa.float64(), "share of rounds with such slots in which it judged them; null before any"),
        Column("warm_ups", pa.int64(), "most warm-ups of a search; several where the strategy is learnt every round"),
        _SEARCHES,
    ),
    _tendencies,
)
