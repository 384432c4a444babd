"""A method's numbers: on one model and task, and its difference to PrunePEFT over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from prunepeft_ray.analysis.charges import CostAccount
from prunepeft_ray.analysis.statistics import Crossed, Difference, Estimate

BASELINE = "prunepeft"
Role = Literal["method", "choice", "oracle", "reference"]
ROLES: tuple[Role, ...] = ("method", "choice", "oracle", "reference")


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
        measured: The deciding metric on test of every retraining, by seed of the search and seed of the retraining.
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
        difference: Difference to ``prunepeft`` on test, paired on the seeds of search and retraining; corrected for
            many tests among the rows of role ``method`` of this model and task.
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
    measured: Crossed
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
    def tests(self) -> dict[int, float]:
        """The mean over its retrainings on test of every search, by its seed: what ``test`` rests on."""
        return {seed: fmean(of_seed.values()) for seed, of_seed in self.measured.items()}

    @property
    def pairs(self) -> int:
        """Pairs of searches that the difference rests on."""
        return self.difference.n

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
        pairs: Pairs of searches with the same model, task and seed.
        difference: Difference to ``prunepeft`` on test: mean over tasks, each with the mean over its models and pairs;
            corrected for many tests among the rows of role ``method``.
    """

    method: str
    role: Role
    places: int
    pairs: int
    difference: Difference
