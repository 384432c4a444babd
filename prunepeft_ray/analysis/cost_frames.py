"""The best metric so far against the cost of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.analysis.charges import CELL
from prunepeft_ray.analysis.columns import NUMBER, TEXT, WHOLE, fitted
from prunepeft_ray.analysis.frame import DerivedFrame
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd


UNITS = {
    "epochs": "epochs of a search",
    "examples": "examples of a search",
    "flops": "FLOP of a search",
    "device_seconds": "device-seconds of a search",
    "evaluations": "candidates evaluated",
}
"""What the cost of a search is counted in."""


STEPS = 100
"""Most points of a curve."""


def cost_curves(results: Results) -> pd.DataFrame:
    """Average the best dev metric so far over a method's searches, against every unit of cost."""
    import pandas as pd

    curves = results["best_so_far"]
    curves = curves[curves.value.notna()]
    found = [
        _mean_curve(own, unit).assign(**dict(zip(CELL, map(str, cell), strict=True)), unit=unit)
        for cell, own in curves.groupby(list(CELL))
        for unit in UNITS
    ]
    return fitted(pd.concat(found, ignore_index=True) if found else pd.DataFrame(), COST_CURVES.columns)


def _mean_curve(curves: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Average step functions from where each has a value; one that has ended keeps its last."""
    import numpy as np
    import pandas as pd

    searches = [own for _, own in curves.groupby("seed")]
    begin = max(float(own[unit].iloc[0]) for own in searches)
    costs = np.unique(curves[unit].to_numpy(dtype="float64"))
    costs = costs[costs >= begin]
    costs = costs[np.unique(np.linspace(0, len(costs) - 1, min(STEPS, len(costs))).round().astype(int))]
    # a search's value at a cost is the last that it had at no more
    values = np.stack(
        [own.value.to_numpy()[np.searchsorted(own[unit].to_numpy(), costs, side="right") - 1] for own in searches]
    )
    return pd.DataFrame(
        {
            "cost": costs,
            "searches": len(searches),
            "value": values.mean(axis=0),
            "lowest": values.min(axis=0),
            "highest": values.max(axis=0),
        }
    )


COST_CURVES = DerivedFrame(
    "cost_curves",
    "One row per point of a curve: the best dev metric so far, mean over a method's searches, against cost; at most "
    f"{STEPS} points for each unit of cost.",
    (
        Column("model", TEXT, "backbone, as the user named it"),
        Column("task", TEXT, "task, as the user named it"),
        Column("method", TEXT, "the method's label in the study"),
        Column("unit", TEXT, f"what cost is counted in: {', '.join(UNITS)}"),
        Column("cost", NUMBER, "what a search had cost by then, retraining aside", "as unit says"),
        Column("searches", WHOLE, "searches that this is the mean of: those with a candidate within the budget"),
        Column("value", NUMBER, "mean of the best dev metric of a candidate within the budget so far"),
        Column("lowest", NUMBER, "the least among the searches"),
        Column("highest", NUMBER, "the most"),
    ),
    cost_curves,
)
