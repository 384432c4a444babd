"""What the rounds of pruning searches did: which slots went, when, and how the search stood after each round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from prunepeft_ray.analysis.charges import CELL, SEARCH
from prunepeft_ray.analysis.columns import fitted
from prunepeft_ray.analysis.frame import DerivedFrame
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.analysis.searches import (
    CELL_COLUMNS,
    SEARCH_COLUMNS,
    SLOT_COLUMNS,
    STATUS_COLUMN,
    UNFINISHED,
    decided,
    layers_of_models,
    seen_in,
)
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd

_ROUND = Column("round", pa.int32(), "1-based round")
_BLOCK = Column("block", pa.int32(), "0-based block of layers")
_DEPTH = Column("depth", pa.float64(), "layer as a share of the depth: 0 next to the input, 1 the last")


def _depth(frame: pd.DataFrame, results: Results) -> pd.Series[float]:
    last = frame.model.map(layers_of_models(results)).astype("float64") - 1
    return frame.layer / last.clip(lower=1)


def _removals(results: Results) -> pd.DataFrame:
    rounds = decided(results, "round").rename(columns={"turn": "round"})
    gone = rounds[rounds.removed]
    if gone.empty:
        return fitted(gone, REMOVALS.columns)
    frame = gone.assign(depth=_depth(gone, results), criteria=gone.criteria.str.join(", "))
    order = [*SEARCH, "round", "probability", "layer", "kind"]
    ascending = [name != "probability" for name in order]
    return fitted(frame.sort_values(order, ascending=ascending), REMOVALS.columns)


def _frequencies(results: Results) -> pd.DataFrame:
    rounds = seen_in(decided(results, "round"))
    if rounds.empty:
        return fitted(rounds, FREQUENCIES.columns)
    searches = rounds[[*SEARCH, "status"]].drop_duplicates()
    cells = searches.assign(unfinished=searches.status != "done").groupby(list(CELL))
    facts = cells.agg(searches=("seed", "size"), unfinished=("unfinished", "sum"))
    by = [*CELL, "slot", "layer", "kind", "block"]
    frame = rounds.groupby(by).agg(there=("seed", "nunique"), removed=("removed", "sum"))
    frame = frame.reset_index().join(facts, on=list(CELL)).sort_values([*CELL, "kind", "layer"])
    frame["frequency"] = frame.removed / frame.there
    frame["share"] = frame.removed / frame.groupby(list(CELL)).removed.transform("sum")
    return fitted(frame.assign(depth=_depth(frame, results)), FREQUENCIES.columns)


def _rounds(results: Results) -> pd.DataFrame:
    by = [*SEARCH, "round"]
    judged = decided(results, "round").rename(columns={"turn": "round"})
    if judged.empty:
        return fitted(judged, ROUNDS.columns)
    frame = judged.groupby(by).agg(
        status=("status", "first"),
        job_id=("job_id", "first"),
        slots_before=("slot", "size"),
        removed=("removed", "sum"),
    )
    frame = frame.join(_removal_texts(results), on=by).reset_index()
    frame["removals"] = frame.removals.fillna("")
    frame["slots"] = frame.slots_before - frame.removed
    frame = frame.merge(trainings(results, frame.job_id), on="job_id", how="left")
    following = frame.groupby(list(SEARCH))
    ended = results["search_states"].set_index(list(SEARCH)).parameters.rename("answer")
    answer = frame.join(ended, on=list(SEARCH)).answer.where(following.cumcount(ascending=False) == 0)
    frame["parameters"] = following.parameters_before.shift(-1).fillna(answer)
    frame["dev_after"] = following.dev.shift(-1)
    return fitted(frame, ROUNDS.columns)


def _removal_texts(results: Results) -> pd.Series[str]:
    removals = results["removals"]
    texts = removals.assign(
        removals=[f"{slot} ({p:.3f})" for slot, p in zip(removals.slot, removals.probability, strict=True)]
    )
    return texts.groupby([*SEARCH, "round"]).removals.agg(", ".join)


def trainings(results: Results, job_ids: pd.Series[str]) -> pd.DataFrame:
    """Return metric, epochs, train_size, parameters (``parameters_before``), dev and loss of jobs.

    Args:
        results: The run or study.
        job_ids: The jobs.

    Returns:
        One row per job that has ended; no number where it was not measured on dev, or the job failed.
    """
    jobs = results["jobs"]
    jobs = jobs[jobs.job_id.isin(job_ids)]
    on_dev = (jobs.evaluate == "dev") & (jobs.status == "done")
    dev = [metrics.get(metric) for metrics, metric in zip(jobs.metrics, jobs.metric, strict=True)]
    loss = [metrics.get("loss") for metrics in jobs.metrics]
    found = jobs[["job_id", "metric", "epochs", "train_size"]].assign(
        parameters_before=jobs.parameters.where(jobs.status == "done"), dev=dev, loss=loss
    )
    return found.assign(**found[["dev", "loss"]].astype("float64").where(on_dev))


def _architectures_found(results: Results) -> pd.DataFrame:
    import pandas as pd

    filled = pd.concat([_answers(results), _standing(results)], ignore_index=True)
    if filled.empty:
        return fitted(filled, ARCHITECTURES_FOUND.columns)
    spaces = pd.DataFrame(
        [
            (model, f"{kind}.{layer}", layer, kind)
            for model, layers in layers_of_models(results).items()
            for kind in results.spec.space.kinds
            for layer in range(layers)
        ],
        columns=["model", "slot", "layer", "kind"],
    )
    empty = filled[[*SEARCH, "status"]].drop_duplicates().merge(spaces, on="model")
    places = [*SEARCH, "slot"]
    whole = pd.concat([filled.assign(filled=True), empty.assign(filled=False)], ignore_index=True)
    whole = whole.drop_duplicates(places).merge(results["removals"][[*places, "round"]], on=places, how="left")
    return fitted(whole.sort_values([*SEARCH, "kind", "layer"]), ARCHITECTURES_FOUND.columns)


def _answers(results: Results) -> pd.DataFrame:
    """The filled slots of the searches that have an answer."""
    import pandas as pd

    from prunepeft_ray.architecture import Architecture

    searches = results["search_states"]
    answered = searches[searches.architecture_id != ""]
    texts = answered[answered.architecture != ""].drop_duplicates("architecture_id")
    names = ["architecture_id", "slot", "layer", "kind", "module", "size"]
    parsed = [
        (name, str(slot), slot.layer, slot.kind, module.type, module.size)
        for name, text in zip(texts.architecture_id, texts.architecture, strict=True)
        for slot, module in Architecture.from_json(text)
    ]
    trained = results["architectures"]
    trained = trained[trained.architecture_id.isin(answered.architecture_id)][names]
    slots = pd.concat([pd.DataFrame(parsed, columns=names), trained]).drop_duplicates(["architecture_id", "slot"])
    return answered[[*SEARCH, "status", "architecture_id"]].merge(slots, on="architecture_id")


def _standing(results: Results) -> pd.DataFrame:
    """The slots that still stand in pruning searches that have no answer yet."""
    rounds = decided(results, "round")
    rounds = rounds[rounds.status == UNFINISHED]
    latest = rounds[rounds.turn == rounds.groupby(list(SEARCH)).turn.transform("max")]
    modules = results["architectures"]
    modules = modules[modules.job_id.isin(latest.job_id)][["job_id", "slot", "module", "size"]]
    left = latest[~latest.removed][[*SEARCH, "status", "slot", "layer", "kind", "job_id"]]
    return left.merge(modules, on=["job_id", "slot"], how="left")


REMOVALS = DerivedFrame(
    "removals",
    "a slot that a round of a search removed",
    (
        *SEARCH_COLUMNS,
        STATUS_COLUMN,
        _ROUND,
        *SLOT_COLUMNS,
        _BLOCK,
        Column("partition", pa.string(), "partition of the slot, as block.kind"),
        _DEPTH,
        Column("probability", pa.float64(), "its probability of being pruned, p(m)"),
        Column("criteria", pa.string(), "criteria that judged it, with commas between"),
    ),
    _removals,
)

FREQUENCIES = DerivedFrame(
    "frequencies",
    "a slot in the rounds of a method's searches on a task and a model: of those that are done or, where none is, of "
    "all so far (paper, Fig. 3)",
    (
        *CELL_COLUMNS,
        *SLOT_COLUMNS,
        _BLOCK,
        _DEPTH,
        Column("there", pa.int64(), "searches whose supernet has the slot"),
        Column("removed", pa.int64(), "searches whose rounds removed it"),
        Column("frequency", pa.float64(), "the share of the two"),
        Column("share", pa.float64(), "removals of this slot as a share of all removals of these searches"),
        Column("searches", pa.int64(), "searches that this rests on"),
        Column("unfinished", pa.int64(), "how many of them have not ended, or failed"),
    ),
    _frequencies,
)

ROUNDS = DerivedFrame(
    "rounds",
    "a round of a search",
    (
        *SEARCH_COLUMNS,
        STATUS_COLUMN,
        _ROUND,
        Column("slots_before", pa.int64(), "slots that stood in the round's training"),
        Column("parameters_before", pa.int64(), "their PEFT parameters"),
        Column("removed", pa.int64(), "slots that the round removed after its training"),
        Column("removals", pa.string(), "those slots with their p(m), most probable first"),
        Column("slots", pa.int64(), "slots left"),
        Column("parameters", pa.int64(), "PEFT parameters left; null until the next training, or the answer, is there"),
        Column("metric", pa.string(), "the primary metric"),
        Column(
            "dev",
            pa.float64(),
            "that metric on dev in the round's training, if evaluated: of the slots before it",
        ),
        Column("dev_after", pa.float64(), "the same in the next round's training: of the slots left"),
        Column("loss", pa.float64(), "loss on dev in the round's training"),
        Column("epochs", pa.int32(), "epochs of the round's training"),
        Column("train_size", pa.int64(), "examples of its training subset; null: the whole split", "examples"),
        Column("job_id", pa.string(), "the round's training"),
    ),
    _rounds,
)

ARCHITECTURES_FOUND = DerivedFrame(
    "architectures_found",
    "a slot of a model and a search with an answer, filled or not; of unfinished pruning searches as it stands",
    (
        *SEARCH_COLUMNS,
        STATUS_COLUMN,
        *SLOT_COLUMNS,
        Column("filled", pa.bool_(), "whether the architecture fills it"),
        Column("module", pa.string(), "module type in the slot; null if it is empty"),
        Column("size", pa.int32(), "LoRA rank, adapter bottleneck or number of prefix vectors; null if it is empty"),
        Column("round", pa.int32(), "round that removed it; null if none did"),
    ),
    _architectures_found,
)
