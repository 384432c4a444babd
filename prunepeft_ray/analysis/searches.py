"""The searches of a run or a study, and what each of them decided."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa

from prunepeft_ray.analysis.charges import CELL, SEARCH
from prunepeft_ray.analysis.columns import fitted
from prunepeft_ray.analysis.frame import DerivedFrame
from prunepeft_ray.analysis.method_rows import BASELINE
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.results import TABLES, Column, search_key

if TYPE_CHECKING:
    import pandas as pd

UNFINISHED = "unfinished"
_COLUMNS = {column.name: column for table in ("decisions", "searches") for column in TABLES[table]}
CELL_COLUMNS, SEARCH_COLUMNS, SLOT_COLUMNS = (
    tuple(_COLUMNS[name] for name in names) for names in (CELL, SEARCH, ("slot", "layer", "kind"))
)
"""Columns that several frames have, as the tables have them."""
STATUS_COLUMN = Column("status", pa.string(), "of the search: done, failed or unfinished")


def _search_states(results: Results) -> pd.DataFrame:
    import pandas as pd

    tables = results.as_study
    ended, asked = tables.read("searches"), tables.read("requests")
    names = ["run_id", *SEARCH]
    known = _begun(results, asked, ended)[names]
    keys = [
        search_key(run, method, task, model, seed) if results.is_study else run
        for run, model, task, method, seed in known.itertuples(index=False, name=None)
    ]
    known["key"] = pd.Series(keys, index=known.index, dtype="str")
    facts = ["status", "parameters", "architecture_id", "architecture"]
    found = known.merge(ended.drop_duplicates(names, keep="last")[[*names, *facts]], on=names, how="left")
    found["status"] = found.status.fillna(UNFINISHED)
    found["architecture_id"] = found.architecture_id.fillna("")
    found["architecture"] = found.architecture.fillna("")
    # a search that failed before it had an answer has zero
    found["parameters"] = found.parameters.where(found.parameters > 0)
    return fitted(found.sort_values(list(SEARCH)), SEARCH_STATES.columns)


def _begun(results: Results, asked: pd.DataFrame, ended: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    names = ["run_id", *SEARCH]
    spec = results.spec
    if asked.empty and ended.empty and isinstance(spec, SearchSpec):
        # its decisions may be there before its first job is
        return pd.DataFrame([[results.run.run_id, spec.model, spec.task.name, BASELINE, spec.seed]], columns=names)
    return pd.concat([asked[names], ended[names]], ignore_index=True).drop_duplicates(ignore_index=True)


def decided(results: Results, step: str) -> pd.DataFrame:
    """Return the decisions of all searches in warm-up turns or in rounds.

    Args:
        results: The run or study.
        step: ``"warmup"`` or ``"round"``.

    Returns:
        The rows of ``decisions`` with model, task, method, seed and status of the search; ``turn`` is the table's
        ``index``, ``block`` that of the partition, and ``fidelity`` how its job trained.
    """
    searches, decisions = results["search_states"], results["decisions"]
    of_step = decisions[decisions.step == step].rename(columns={"index": "turn"})
    joined = of_step.merge(searches[["key", *SEARCH, "status"]], left_on="run_id", right_on="key")
    # a method of one's own may name its partitions as it likes
    numbers = {name: re.match(r"\d+", str(name)) for name in joined.partition.unique()}
    joined["block"] = joined.partition.map({name: int(found[0]) if found else 0 for name, found in numbers.items()})
    joined["fidelity"] = joined.job_id.map(trained(results))
    return joined.drop(columns=["run_id", "key", "step"]).astype({"block": "int64"})


def layers_of_models(results: Results) -> dict[str, int]:
    """Return how many layers every model has, by what any job trained and any search decided."""
    import pandas as pd

    jobs, filled = results["jobs"], results["architectures"]
    top = filled.groupby("job_id").layer.max()
    seen = [jobs[["job_id", "model"]].assign(layer=jobs.job_id.map(top))[["model", "layer"]]]
    searches, decisions = results["search_states"], results["decisions"]
    judged = decisions.groupby("run_id").layer.max()
    seen.append(searches[["model"]].assign(layer=searches.key.map(judged)))
    deepest = pd.concat(seen).dropna().groupby("model").layer.max()
    return {str(model): int(layer) + 1 for model, layer in deepest.items()}


def seen_in(searches: pd.DataFrame) -> pd.DataFrame:
    """Keep the searches that are done; where a model, task and method has none, all there are so far.

    What is unfinished would pull down what it is averaged with.

    Args:
        searches: Rows with model, task, method and status.
    """
    done = searches.status == "done"
    any_done = done.groupby([searches[name] for name in CELL]).transform("any")
    return searches[done | ~any_done.astype(bool)]


def trained(results: Results) -> dict[str, str]:
    """Say of every job how much it trained on for how long, such as ``"100 examples, 3 epochs"``.

    Returns:
        The texts by job id.
    """
    jobs = results["jobs"]
    whole = jobs.train_size.isna() | (jobs.train_size >= jobs.task_train_size)
    asked = jobs[["job_id", "epochs"]].assign(whole=whole, size=jobs.train_size.where(~whole, jobs.task_train_size))
    kinds = asked[["whole", "size", "epochs"]].drop_duplicates()
    kinds["fidelity"] = [
        f"{'all ' if whole else ''}{size:,.0f} examples, {epochs} epoch{'' if epochs == 1 else 's'}"
        for whole, size, epochs in kinds.itertuples(index=False, name=None)
    ]
    told = asked.merge(kinds, on=["whole", "size", "epochs"])
    return dict(zip(told.job_id, told.fidelity, strict=True))


SEARCH_STATES = DerivedFrame(
    "search_states",
    "a search that has begun",
    (
        *SEARCH_COLUMNS,
        Column("key", pa.string(), "the `run_id` of its decisions"),
        STATUS_COLUMN,
        Column("parameters", pa.int64(), "PEFT parameters of its answer; null if there is none"),
        Column("architecture_id", pa.string(), "digest of its answer; empty if there is none"),
        Column("architecture", pa.string(), "its answer as JSON; empty if there is none, or for a search by itself"),
    ),
    _search_states,
)
