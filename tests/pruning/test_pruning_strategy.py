import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunepeft_ray.architecture import Partition
from prunepeft_ray.errors import InputError
from prunepeft_ray.pruning import Strategy

P, Q, R = Partition(0, "PA"), Partition(1, "PA"), Partition(0, "SA")
NAMES = ("weight", "zeros", "gradient")

TABLES = st.fixed_dictionaries(
    {p: st.fixed_dictionaries({name: st.integers(0, 9) for name in NAMES}) for p in (P, Q, R)}
)


def test_from_counts_by_hand():
    counts = {P: {"weight": 3, "zeros": 1, "gradient": 0}, Q: {"weight": 2, "zeros": 2, "gradient": 1}}
    strategy = Strategy.from_counts(counts, [R, Q, P], NAMES, seed=7, origin={"model": "m"})
    # P: weight leads. Q: weight and zeros tie; zeros (2) and gradient (1) peak here. R: nothing was removed
    assert strategy.assignment == {P: ("weight",), Q: NAMES, R: NAMES}
    assert strategy.weights[P] == pytest.approx({"weight": 4 / 7, "zeros": 2 / 7, "gradient": 1 / 7})
    assert strategy.weights[Q] == pytest.approx({"weight": 3 / 8, "zeros": 3 / 8, "gradient": 2 / 8})
    assert strategy.weights[R] == pytest.approx(dict.fromkeys(NAMES, 1 / 3))
    assert strategy.evidence[R] == dict.fromkeys(NAMES, 0)
    assert (strategy.select, strategy.seed, strategy.origin) == ("frequency", 7, {"model": "m"})


def test_a_criterion_that_peaks_twice_is_added_to_both_partitions():
    counts = {P: {"weight": 5, "zeros": 2}, Q: {"weight": 4, "zeros": 2}, R: {"weight": 1}}
    strategy = Strategy.from_counts(counts, [P, Q, R], NAMES)
    assert strategy.assignment == {P: ("weight", "zeros"), Q: ("weight", "zeros"), R: ("weight",)}


def test_from_losses_by_hand():
    losses = {P: {"weight": 0.5, "zeros": 0.7, "gradient": 0.6}, Q: dict.fromkeys(NAMES, 0.4)}
    strategy = Strategy.from_losses(losses, [P, Q, R], NAMES)
    assert strategy.assignment == {P: ("weight",), Q: NAMES, R: NAMES}
    # mean 0.6, deviation sqrt(0.02 / 3): standard scores -1.2247, 1.2247, 0
    e = math.exp(1.5**0.5)
    total = e + 1 / e + 1
    assert strategy.weights[P] == pytest.approx({"weight": e / total, "zeros": 1 / e / total, "gradient": 1 / total})
    assert strategy.weights[Q] == strategy.weights[R] == pytest.approx(dict.fromkeys(NAMES, 1 / 3))
    assert strategy.evidence == losses


@given(TABLES)
def test_every_strategy_is_sound(table):
    for strategy in (
        Strategy.from_counts(table, table, NAMES),
        Strategy.from_losses(table, table, NAMES),
        Strategy.uniform(table, NAMES),
    ):
        assert set(strategy.assignment) == set(strategy.weights) == {P, Q, R}
        for partition in (P, Q, R):
            assert strategy.assignment[partition]
            assert math.fsum(strategy.weights[partition].values()) == pytest.approx(1)
            assert min(strategy.weights[partition].values()) > 0
        assert Strategy.from_dict(json.loads(json.dumps(strategy.to_dict()))) == strategy


@given(TABLES)
def test_every_criterion_with_a_count_is_assigned_somewhere(table):
    strategy = Strategy.from_counts(table, table, NAMES)
    for name in NAMES:
        if any(table[p][name] for p in table):
            assert any(name in names for names in strategy.assignment.values())


def test_layout_of_the_file():
    data = Strategy.from_counts({P: {"weight": 1}}, [P], ("weight", "zeros"), seed=3, origin={"task": "t"}).to_dict()
    assert data == {
        "select": "frequency",
        "criteria": ["weight", "zeros"],
        "seed": 3,
        "assignment": {"0.PA": ["weight"]},
        "weights": {"0.PA": {"weight": 2 / 3, "zeros": 1 / 3}},
        "evidence": {"0.PA": {"weight": 1, "zeros": 0}},
        "origin": {"task": "t"},
        "abstained": [],
    }


def test_criteria_that_abstained_stay_in_the_file_and_out_of_the_judgement():
    counts = {P: {"weight": 1}}
    strategy = Strategy.from_counts(counts, [P], ("weight", "zeros", "gate"), abstained=("zeros",))
    assert strategy.assignment == {P: ("weight",)}
    # (1 + 1) / (1 + 2) and (0 + 1) / (1 + 2)
    assert strategy.weights[P] == pytest.approx({"weight": 2 / 3, "zeros": 0, "gate": 1 / 3})
    assert strategy.to_dict()["abstained"] == ["zeros"]
    assert Strategy.from_dict(json.loads(json.dumps(strategy.to_dict()))) == strategy


def test_a_partition_without_any_removal_goes_to_all_that_did_not_abstain():
    strategy = Strategy.from_counts({}, [P], ("weight", "zeros", "gate"), abstained=("zeros",))
    assert strategy.assignment == {P: ("weight", "gate")}


def test_who_abstained_must_be_a_criterion():
    with pytest.raises(InputError, match="'gate' abstained, but is not among the criteria"):
        Strategy.from_dict(valid() | {"abstained": ["gate"]})


def valid():
    return {
        "select": "frequency",
        "criteria": ["weight", "zeros"],
        "assignment": {"0.PA": ["weight"]},
        "weights": {"0.PA": {"weight": 0.5, "zeros": 0.5}},
    }


def test_evidence_seed_and_origin_may_be_missing():
    strategy = Strategy.from_dict(valid())
    assert (strategy.evidence, strategy.seed, strategy.origin) == ({}, 0, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "not a strategy"),
        ({"select": ...}, "not a strategy"),
        ({"assignment": ...}, "not a strategy"),
        ({"weights": 3}, "not a strategy"),
        ({"weights": {"0.PA": {"weight": "much"}}}, "not a strategy"),
        ({"assignment": {"PA.0": ["weight"]}}, "'PA.0' is not a partition"),
        ({"assignment": {"0.XX": ["weight"]}}, "'0.XX' is not a partition"),
        ({"assignment": {"0.PA": []}}, "partition 0.PA must have criteria"),
        ({"assignment": {"0.PA": ["gradient"]}}, "partition 0.PA must have criteria"),
        ({"weights": {}}, "weights of partition 0.PA"),
        ({"weights": {"0.PA": {"weight": 1}}}, "weights of partition 0.PA"),
        ({"weights": {"0.PA": {"weight": 0.5, "zeros": 0.4}}}, "weights of partition 0.PA"),
        ({"weights": {"0.PA": {"weight": 1.5, "zeros": -0.5}}}, "weights of partition 0.PA"),
        ({"weights": {"0.PA": {"weight": math.nan, "zeros": 0.5}}}, "weights of partition 0.PA"),
    ],
)
def test_what_is_no_strategy_is_refused(change, message):
    data = None if change is None else {k: v for k, v in {**valid(), **change}.items() if v is not ...}
    with pytest.raises(InputError, match=message):
        Strategy.from_dict(data)
