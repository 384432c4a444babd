"""Studies drawn at random whose true differences are known: how often do tables claim what is not there?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from statistics import fmean

import numpy as np

from prunepeft_ray.analysis.differences import overall_rows, with_differences
from prunepeft_ray.analysis.method_rows import BASELINE, MethodRow
from prunepeft_ray.analysis.statistics import Crossed, Difference, difference_over, estimate_crossed

CHANCE, NO_CHANCE = "random-search", "uniform-lora"
"""Two rivals of ``prunepeft``: one searches by chance as it does, one finds the same in every search."""
BLANK = MethodRow(**{field.name: None for field in fields(MethodRow) if field.name not in ("difference", "pareto")})


@dataclass(frozen=True)
class Case:
    """What varies, each as a standard deviation.

    Args:
        seeds: Seeds of searches, and of retrainings.
        tasks: Tasks.
        search: Between architectures that a method finds.
        retraining: Between seeds of retraining, for one method.
        single: Between single retrainings.
        task: Between tasks, of the true difference of two methods.
        architectures: How many a search chooses from by chance; 0: each finds its own.
    """

    seeds: int
    tasks: int
    search: float = 0.0
    retraining: float = 0.0
    single: float = 0.0
    task: float = 0.0
    architectures: int = 0


@dataclass(frozen=True)
class Outcome:
    """What the tables say of one true difference.

    Args:
        found: The difference as estimated.
        truth: What it is.
        naive: As estimated by a paired t-test over searches that takes every one, of whatever task, as independent.
    """

    found: Difference
    truth: float
    naive: Difference

    @property
    def missed(self) -> bool:
        return misses(self.found, self.truth)


def misses(found: Difference, truth: float) -> bool:
    """Whether an interval leaves out the truth; none claims nothing."""
    return found.low is not None and not found.low <= truth <= found.high


def draw_method(chance: np.random.Generator, case: Case, *, searches: bool) -> Crossed:
    """Draw the retrainings of a method whose mean is 0 on a task, by seed of the search and of the retraining."""
    count = case.architectures or case.seeds
    found = chance.integers(count, size=case.seeds) if case.architectures else np.arange(case.seeds)
    worth = chance.normal(0, case.search, count)
    if case.architectures:
        worth -= worth.mean()
    if not searches:
        found, worth = np.zeros(case.seeds, dtype=int), np.zeros(count)
    of_architecture = worth[:, None] + chance.normal(0, case.single, (count, case.seeds))
    table = of_architecture[found] + chance.normal(0, case.retraining, case.seeds)
    return {search: dict(enumerate(map(float, row))) for search, row in enumerate(table)}


def draw_study(chance: np.random.Generator, case: Case) -> tuple[list[MethodRow], dict[tuple[str, str], float]]:
    """Draw a study of ``prunepeft`` and two rivals; its rows, and the true differences by task and method."""
    rows, truths = [], {}
    for number in range(case.tasks):
        task = f"task {number}"
        for method in (BASELINE, CHANCE, NO_CHANCE):
            shift = 0.0 if method == BASELINE else float(chance.normal(0, case.task))
            truths[task, method] = shift
            drawn = draw_method(chance, case, searches=method != NO_CHANCE)
            measured = {
                search: {seed: value + shift for seed, value in of_search.items()}
                for search, of_search in drawn.items()
            }
            known = {"model": "model", "task": task, "method": method, "role": "method", "measured": measured}
            rows.append(replace(BLANK, test=estimate_crossed(measured), **known))
    return with_differences(rows), truths


def outcomes(case: Case, studies: int, seed: int = 0) -> Iterator[tuple[str, Outcome]]:
    """Draw studies, and name what their tables say by method, on every task and over all."""
    chance = np.random.default_rng(seed)
    for _ in range(studies):
        rows, truths = draw_study(chance, case)
        tests = {(row.task, row.method): row.tests for row in rows}
        pairs: dict[str, list[float]] = {CHANCE: [], NO_CHANCE: []}
        for row in rows:
            if row.method != BASELINE:
                own = [row.tests[seed] - tests[row.task, BASELINE][seed] for seed in row.tests]
                pairs[row.method] += own
                yield row.method, Outcome(row.difference, truths[row.task, row.method], difference_over(own))
        for row in overall_rows(rows):
            yield f"{row.method} over all", Outcome(row.difference, 0.0, difference_over(pairs[row.method]))


def rate(flags: list[bool]) -> float:
    return fmean(map(float, flags))


def width(found: list[Difference]) -> float:
    """Mean width of intervals; of those that there are."""
    return fmean(one.high - one.low for one in found if one.low is not None)
