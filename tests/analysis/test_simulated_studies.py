"""Studies whose truth is known: tables claim a difference that is not there in 5 % of them at most."""

import math
from collections import defaultdict

import pytest
from simulated_studies import Case, Outcome, misses, outcomes, rate, width

ALPHA = 0.05
CASES = {
    "no search varies": {"single": 1.0},
    "searches vary": {"search": 1.0, "single": 1.0},
    "searches vary alone": {"search": 1.0},
    "retraining seeds vary": {"retraining": 1.0, "single": 1.0},
    "all vary": {"search": 1.0, "retraining": 0.5, "single": 1.0, "task": 0.5},
    "few architectures": {"search": 0.5, "single": 1.0, "architectures": 3},
    "one architecture": {"single": 1.0, "architectures": 1, "task": 1.0},
}
SMALL = [(2, 2, "searches vary"), (2, 4, "one architecture"), (3, 3, "retraining seeds vary"), (5, 4, "all vary")]


def drawn(seeds: int, tasks: int, case: str, studies: int) -> dict[str, list[Outcome]]:
    found = defaultdict(list)
    for name, outcome in outcomes(Case(seeds, tasks, **CASES[case]), studies):
        found[name].append(outcome)
    return found


def too_many(flags: list[bool]) -> bool:
    """Whether there are more than 5 %, by more than four standard errors."""
    return rate(flags) > ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / len(flags))


def check(found: dict[str, list[Outcome]]) -> None:
    for name, of_name in found.items():
        assert not too_many([one.missed for one in of_name]), name
        without = [one for one in of_name if one.truth == 0 and one.found.p is not None]
        if without:
            assert not too_many([one.found.p < ALPHA for one in without]), name


@pytest.mark.parametrize(("seeds", "tasks", "case"), SMALL)
def test_intervals_miss_the_truth_and_tests_raise_false_alarms_in_five_percent_at_most(seeds, tasks, case):
    check(drawn(seeds, tasks, case, 250))


def test_the_paired_test_over_searches_would_not_have_passed():
    """So the simulation can tell a wrong model from a right one, here for a method without chance and over all."""
    found = drawn(5, 4, "all vary", 100)
    for name in ("uniform-lora", "uniform-lora over all"):
        assert too_many([misses(one.naive, one.truth) for one in found[name]])


def test_intervals_are_not_needlessly_wide():
    # what the paired test takes into account is all that varies, so its width is the one to have
    found = drawn(3, 2, "searches vary alone", 50)["random-search"]
    assert width([one.found for one in found]) == pytest.approx(width([one.naive for one in found]))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tasks", [2, 8])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_same_in_many_more_studies(seeds, tasks, case):
    """Run with ``-s`` for the figures."""
    found = drawn(seeds, tasks, case, 2000)
    for name, of_name in found.items():
        now, before = rate([one.missed for one in of_name]), rate([misses(one.naive, one.truth) for one in of_name])
        ratio = width([one.found for one in of_name]) / width([one.naive for one in of_name])
        where = f"{seeds} seeds, {tasks} tasks, {case}, {name}"
        print(f"\n{where}: missed {now:.1%}, paired test {before:.1%}, width {ratio:.2f}")
    check(found)
