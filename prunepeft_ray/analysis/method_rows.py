"""A method's numbers: on one model and task, and its difference to PrunePEFT over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Literal

from prunepeft_ray.analysis.charges import CostAccount
from prunepeft_ray.analysis.columns import NUMBER, TEXT, WHOLE, YES, Described, Words, columns_of, fitted
from prunepeft_ray.analysis.statistics import NO_DIFFERENCE, Crossed, Difference, Estimate
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "prunepeft"
Role = Literal["method", "choice", "oracle", "reference"]
ROLES: tuple[Role, ...] = ("method", "choice", "oracle", "reference")


_METHOD = "the method's label in the study, or what a made-up row is called"
_ROLE = (
    "method; reference: may be above the budget; choice: the best single criterion by dev; oracle: by test, which "
    "nobody can know before"
)
_NEW_SEEDS = "new seeds of search and retraining"


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """A method on a model and a task; a row of the frame ``methods``.

    Args:
        measured: The primary metric on test of every retraining, by seed of the search and seed of the retraining.
    """

    model: Annotated[str, Described(TEXT, "backbone, as the user named it")]
    task: Annotated[str, Described(TEXT, "task, as the user named it")]
    method: Annotated[str, Described(TEXT, _METHOD)]
    role: Annotated[Role, Described(TEXT, _ROLE)]
    chosen: Annotated[str | None, Described(TEXT, "the single criterion that a choice or an oracle took")] = None
    metric: Annotated[str | None, Described(TEXT, "the primary metric")]
    done: Annotated[int, Described(WHOLE, "searches that have ended with an architecture")]
    failed: Annotated[int, Described(WHOLE, "searches that have failed")]
    missing: Annotated[int, Described(WHOLE, "searches that have not ended")]
    retrained: Annotated[int, Described(WHOLE, "finished retrainings")]
    retrainings_failed: Annotated[int, Described(WHOLE, "retrainings that have failed")]
    retrainings_missing: Annotated[int, Described(WHOLE, "retrainings of ended searches that are not there yet")]
    test: Annotated[Estimate, Words(split="test", population=_NEW_SEEDS)]
    dev: Annotated[Estimate, Words(split="dev", population=_NEW_SEEDS)]
    measured: Crossed
    retraining_deviation: Annotated[
        float | None, Described(NUMBER, "deviation on test among retrainings of one choice, pooled over searches")
    ]
    difference: Annotated[
        Difference,
        Words(
            what="pairs of searches with the same seed",
            those="those pairs, of equal retraining seeds",
            population=_NEW_SEEDS,
        ),
    ] = NO_DIFFERENCE
    parameters_min: Annotated[int | None, Described(WHOLE, "fewest PEFT parameters of a chosen architecture")]
    parameters_max: Annotated[int | None, Described(WHOLE, "most")]
    percent: Annotated[float | None, Described(NUMBER, "the most as a percentage of the backbone", "%")]
    backbone_parameters: Annotated[int | None, Described(WHOLE, "parameters of the backbone without its head")]
    budget: Annotated[int | None, Described(WHOLE, "most parameters allowed")]
    within_budget: Annotated[
        bool | None, Described(YES, "whether every chosen architecture is within the budget; null if not known yet")
    ]
    pareto: Annotated[
        bool,
        Described(
            YES,
            "whether no other row here has a better test mean at no more parameters, or as good at fewer; never for a "
            "choice or an oracle, which stand for another row",
        ),
    ] = False
    search_ended: Annotated[
        bool, Described(YES, "whether the cost of search is of searches that are done, or else of what there is")
    ]
    search: Annotated[CostAccount, Words(what="a search, retraining aside")]
    retraining: Annotated[CostAccount, Words(what="all retrainings of a search")]
    single_retraining: Annotated[CostAccount, Words(what="one retraining")]
    total: Annotated[
        CostAccount, Words(what="all searches, failed and unfinished ones too, and all retrainings, summed up")
    ]

    @property
    def tests(self) -> dict[int, float]:
        """The mean over its retrainings on test of every search, by its seed: what ``test`` rests on."""
        return {seed: fmean(of_seed.values()) for seed, of_seed in self.measured.items()}

    @property
    def pairs(self) -> int:
        """Pairs of searches that the difference rests on."""
        return self.difference.n


@dataclass(frozen=True)
class OverallRow:
    """A method over all models and tasks; a row of the frame ``overall``."""

    method: Annotated[str, Described(TEXT, _METHOD)]
    role: Annotated[Role, Described(TEXT, _ROLE)]
    places: Annotated[int, Described(WHOLE, "models and tasks, counted together, with a pair")]
    pairs: Annotated[int, Described(WHOLE, "pairs of searches with the same model, task and seed")]
    difference: Annotated[
        Difference,
        Words(
            what="tasks with a pair",
            those="those tasks, each with the mean over its models and pairs",
            population="new tasks like these, with the models of the study",
        ),
    ]


METHOD_COLUMNS, OVERALL_COLUMNS = columns_of(MethodRow), columns_of(OverallRow)


def frame_of(rows: Iterable[MethodRow]) -> pd.DataFrame:
    """Return rows as a table with a column for every number, such as ``test_mean`` or ``search_flops``."""
    return _flat((replace(row, measured={}) for row in rows), METHOD_COLUMNS)


def overall_frame_of(rows: Iterable[OverallRow]) -> pd.DataFrame:
    """Return overall rows as a table with a column for every number."""
    return _flat(rows, OVERALL_COLUMNS)


def _flat(rows: Iterable[MethodRow | OverallRow], columns: Sequence[Column]) -> pd.DataFrame:
    import pandas as pd

    return fitted(pd.json_normalize([asdict(row) for row in rows], sep="_"), columns)
