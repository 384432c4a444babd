import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pruning_fakes import pa, sa

from prunepeft_ray.architecture import KINDS, Partition, Slot, partition_of
from prunepeft_ray.errors import InputError
from prunepeft_ray.pruning import PROFILES, RoundScores, Strategy

LAYERS = 12
NAMES = ("weight", "threshold", "gate")
ALL = [Slot(layer, kind) for layer in range(LAYERS) for kind in KINDS]
PARTITIONS = partition_of(ALL, LAYERS)
PLACES = sorted(set(PARTITIONS.values()))
PER_PARTITION = ("paper", "reference")
LONE, CROWD = Partition(0, "PA"), Partition(1, "PA")


def table(slots, *columns):
    return dict(zip(slots, columns, strict=True))


def one_partition(thetas, *criteria):
    partitions = dict.fromkeys(next(iter(thetas.values())), LONE)
    return RoundScores(thetas, partitions, Strategy.uniform([LONE], criteria))


def test_paper_by_hand():
    # weight, small first: standard scores sqrt(1.5), 0, -sqrt(1.5), ranks 0, 1, 2,
    # k = sigmoid(3), sigmoid(2), sigmoid(1) = 0.952574, 0.880797, 0.731059,
    # exp(k Theta) = 3.211250, 1, 0.408460, sum 4.619711
    weight = table(pa(0, 1, 2), 1.0, 2.0, 3.0)
    by_weight = table(pa(0, 1, 2), 0.695119, 0.216464, 0.088417)
    assert PROFILES["paper"](one_partition({"weight": weight}, "weight")) == pytest.approx(by_weight, abs=1e-6)
    # zeros, small first: standard scores sqrt(0.5) twice, at mean rank 0.5, and -sqrt(2) at rank 2
    zeros = table(pa(0, 1, 2), 1.0, 1.0, 4.0)
    by_zeros = table(pa(0, 1, 2), 0.457664, 0.457664, 0.084673)
    assert PROFILES["paper"](one_partition({"zeros": zeros}, "zeros")) == pytest.approx(by_zeros, abs=1e-6)
    both = PROFILES["paper"](one_partition({"weight": weight, "zeros": zeros}, "weight", "zeros"))
    assert both == pytest.approx(table(pa(0, 1, 2), 0.576391, 0.337064, 0.086545), abs=1e-6)


def test_reference_by_hand():
    # small first: the list is PA.0 to PA.3, v = Theta / 0.40001, their softmax 0.165298, 0.212246, 0.272527, 0.349929,
    # rank weights 4.762871, 4.403985, 3.655293, 2.5, scores 0.787293, 0.934726, 0.996166, 0.874823
    weight = table(pa(0, 1, 2, 3, 4), 0.1, 0.2, 0.3, 0.4, 0.5)
    alone = table(pa(0, 1, 2, 3, 4), 0.223084, 0.258522, 0.274904, 0.243491, 0.0)
    assert PROFILES["reference"](one_partition({"weight": weight}, "weight")) == pytest.approx(alone, abs=1e-6)
    # the second list is PA.4, 3, 0, 1; added up 1.783460, 1.809556, 0.996166, 1.809546, 0.787285: PA.4 is dropped
    sensitivity = table(pa(0, 1, 2, 3, 4), 3.0, 4.0, 5.0, 2.0, 1.0)
    both = one_partition({"weight": weight, "sensitivity": sensitivity}, "weight", "sensitivity")
    expected = table(pa(0, 1, 2, 3, 4), 0.285067, 0.292604, 0.129727, 0.292601, 0.0)
    assert PROFILES["reference"](both) == pytest.approx(expected, abs=1e-6)


def averaged_example():
    slots = pa(0, 1) + sa(0, 1)
    first, second = Partition(0, "PA"), Partition(0, "SA")
    strategy = replace(
        Strategy.uniform([first, second], ("weight", "threshold")),
        weights={first: {"weight": 0.75, "threshold": 0.25}, second: {"weight": 0.25, "threshold": 0.75}},
    )
    thetas = {"weight": table(slots, 1.0, 3.0, 10.0, 30.0), "threshold": table(slots, 0.2, 0.6, 0.5, 0.5)}
    return RoundScores(thetas, partition_of(slots, 2, "none"), strategy)


def test_averaged_by_hand():
    # weight: standard scores 1, -1 in both kinds; softmax over all four 0.440399, 0.059601 twice
    # threshold, large first: -1, 1 in PA; it abstains in SA, where weight alone judges; softmax 0.072329, 0.534447
    # mixed: PA.0 0.75 * 0.440399 + 0.25 * 0.072329 = 0.348381, then 0.178313, 0.440399, 0.059601; sum 1.026694
    expected = table(pa(0, 1) + sa(0, 1), 0.339323, 0.173677, 0.428948, 0.058052)
    assert PROFILES["averaged"](averaged_example()) == pytest.approx(expected, abs=1e-6)


def test_averaged_shrinks_scores_by_their_reliability():
    example = averaged_example()
    slots = pa(0, 1) + sa(0, 1)
    halves = {
        # sums 2, 6, 20, 60; differences 1, -1 in PA: 1 - 1 / 4 = 0.75; none in SA: 1
        "weight": table(slots, (1.5, 0.5), (2.5, 3.5), (10.0, 10.0), (30.0, 30.0)),
        # sums 0.4, 1.2; differences 0.4, -0.4: 1 - 0.16 / 0.16 = 0
        "threshold": table(slots, (0.4, 0.0), (0.4, 0.8), (0.5, 0.5), (0.5, 0.5)),
    }
    # standard scores of weight 0.75, -0.75, 1, -1; of threshold 0 for all, so 0.25 each; SA is left to weight alone
    powers = [math.exp(score) for score in (0.75, -0.75, 1, -1)]
    mixed = [0.75 * powers[0] / sum(powers) + 0.0625, 0.75 * powers[1] / sum(powers) + 0.0625]
    mixed += [power / sum(powers) for power in powers[2:]]
    expected = table(slots, *(value / sum(mixed) for value in mixed))
    assert PROFILES["averaged"](replace(example, halves=halves)) == pytest.approx(expected)


@pytest.mark.parametrize("profile", ["paper", "reference", "averaged"])
def test_a_criterion_that_gives_every_slot_one_value_has_no_say(profile):
    slots = pa(0, 1, 2, 3, 4)
    thetas = {"weight": table(slots, 1.0, 2.0, 3.0, 4.0, 5.0), "zeros": dict.fromkeys(slots, 1.0)}
    both = one_partition(thetas, "weight", "zeros")
    assert both.judges(Slot(2, "PA")) == ("weight",)
    alone = one_partition({"weight": thetas["weight"]}, "weight")
    for seed in range(5):
        p = PROFILES[profile](replace(both, seed=seed))
        assert p == pytest.approx(PROFILES[profile](replace(alone, seed=seed)))


@pytest.mark.parametrize("profile", ["paper", "reference", "averaged"])
def test_where_all_criteria_abstain_no_slot_is_preferred(profile):
    slots = pa(0, 1, 2)
    scores = one_partition({"weight": dict.fromkeys(slots, 2.0), "zeros": dict.fromkeys(slots, 1.0)}, "weight", "zeros")
    assert scores.judges(Slot(0, "PA")) == ()
    assert PROFILES[profile](scores) == pytest.approx(dict.fromkeys(slots, 1 / 3))


def test_criteria_without_weight_share_a_partition_alike_where_the_others_abstain():
    slots = pa(0, 1, 2)
    rows = {
        "zeros": dict.fromkeys(slots, 1.0),
        "weight": table(slots, 1.0, 2.0, 3.0),
        "gate": table(slots, 3.0, 2.0, 1.0),
    }
    strategy = replace(
        Strategy.uniform([LONE], tuple(rows)), weights={LONE: {"zeros": 1.0, "weight": 0.0, "gate": 0.0}}
    )
    p = PROFILES["averaged"](RoundScores(rows, dict.fromkeys(slots, LONE), strategy))
    assert p[Slot(0, "PA")] == pytest.approx(p[Slot(2, "PA")])
    assert p[Slot(0, "PA")] > p[Slot(1, "PA")]


def test_averaged_raw_sets_kinds_against_each_other_as_they_are():
    both = replace(averaged_example(), compare="raw")
    weight = replace(both, strategy=Strategy.uniform(set(both.partitions.values()), ("weight",)))
    p = PROFILES["averaged"](weight)
    assert p[Slot(0, "PA")] > p[Slot(1, "PA")] > p[Slot(0, "SA")] > p[Slot(1, "SA")]
    # but no criterion counts more because of its unit
    tiny = {slot: theta * 1e-9 for slot, theta in both.thetas["weight"].items()}
    scaled = replace(both, thetas={**both.thetas, "weight": tiny})
    assert PROFILES["averaged"](scaled) == pytest.approx(PROFILES["averaged"](both))


@pytest.mark.parametrize("name", ["paper", "reference", "averaged"])
def test_who_is_doomed_when_alone(name):
    slots = pa(0, 1, 2, 3, 4)
    partitions = {slot: LONE if slot == Slot(0, "PA") else CROWD for slot in slots}
    # the lone slot is the most important one
    thetas = {"weight": table(slots, 9.0, 1.0, 2.0, 3.0, 4.0)}
    p = PROFILES[name](RoundScores(thetas, partitions, Strategy.uniform([LONE, CROWD], ("weight",))))
    if name == "averaged":
        assert p[Slot(0, "PA")] == min(p.values())
    else:
        assert p[Slot(0, "PA")] == 1


def test_unknown_profile():
    with pytest.raises(InputError, match="unknown profile 'avreaged': did you mean 'averaged'"):
        PROFILES["avreaged"]


# sums of such values are exact, so that no tie hides behind a rounding error
GRID = st.integers(0, 80).map(lambda n: n / 16)


@st.composite
def round_scores(draw, values=GRID):
    slots = draw(st.lists(st.sampled_from(ALL), min_size=1, unique=True))
    thetas = {name: {slot: draw(values) for slot in slots} for name in NAMES}
    counts = {p: {name: draw(st.integers(0, 3)) for name in NAMES} for p in PLACES}
    compare = draw(st.sampled_from(("within-kind", "raw")))
    strategy = Strategy.from_counts(counts, PLACES, NAMES)
    halves = {
        name: {slot: (draw(values), draw(values)) for slot in slots} for name in draw(st.sets(st.sampled_from(NAMES)))
    }
    return RoundScores(thetas, PARTITIONS, strategy, compare, draw(st.integers(0, 9)), halves)


PROFILE_NAMES = st.sampled_from(("paper", "reference", "averaged"))


@given(round_scores(st.floats(0, 1e12)), PROFILE_NAMES)
def test_probabilities_are_sound(scores, name):
    p = PROFILES[name](scores)
    assert list(p) == scores.slots
    assert all(math.isfinite(value) and value >= 0 for value in p.values())
    groups = scores.members().values() if name in PER_PARTITION else [scores.slots]
    assert all(math.fsum(p[slot] for slot in slots) == pytest.approx(1) for slots in groups)
    if name == "reference":
        assert all(sum(p[slot] > 0 for slot in slots) <= 4 for slots in groups)


@given(round_scores(), PROFILE_NAMES, st.randoms())
def test_order_of_slots_does_not_matter(scores, name, rng):
    shuffled = {}
    for criterion, thetas in scores.thetas.items():
        pairs = list(thetas.items())
        rng.shuffle(pairs)
        shuffled[criterion] = dict(pairs)
    halves = {criterion: dict(sorted(row.items(), reverse=True)) for criterion, row in scores.halves.items()}
    assert PROFILES[name](replace(scores, thetas=shuffled, halves=halves)) == PROFILES[name](scores)


@given(round_scores(), st.sampled_from(("paper", "averaged")), st.integers(1, 64))
def test_adding_a_constant_changes_nothing(scores, name, constant):
    shifted = {c: {slot: theta + constant for slot, theta in row.items()} for c, row in scores.thetas.items()}
    expected = PROFILES[name](scores)
    assert PROFILES[name](replace(scores, thetas=shifted)) == pytest.approx(expected, abs=1e-9)


@given(round_scores(), st.sampled_from(("paper", "averaged")))
def test_no_unit_decides_between_the_kinds_or_criteria(scores, name):
    scores = replace(scores, compare="within-kind")
    scaled = {
        c: {slot: theta * (1 if c == "gate" else 1000 if slot.kind == "SA" else 1e-6) for slot, theta in row.items()}
        for c, row in scores.thetas.items()
    }
    unit = {"PA": 1e-6, "PF": 3.0, "PT": 7.0, "SA": 1000.0}
    halves = {
        c: {slot: tuple(half * (1 if c == "gate" else unit[slot.kind]) for half in pair) for slot, pair in row.items()}
        for c, row in scores.halves.items()
    }
    found = PROFILES[name](replace(scores, thetas=scaled, halves=halves))
    assert found == pytest.approx(PROFILES[name](scores), abs=1e-9)


@st.composite
def relabelled(draw):
    """Scores without ties, which a seed would break by the slot's name, and the same with slots swapped around."""
    scores = draw(round_scores())
    slots = scores.slots
    values = draw(st.permutations(range(1, len(slots) + 1)))
    thetas = {
        "weight": dict(zip(slots, values, strict=True)),
        "threshold": {slot: value**2 for slot, value in zip(slots, values, strict=True)},
        "gate": {slot: 1 / value for slot, value in zip(slots, values, strict=True)},
    }
    name = {}
    for members in scores.members().values():
        name |= dict(zip(members, draw(st.permutations(members)), strict=True))
    halves = {"weight": {slot: (value, value + value % 3) for slot, value in zip(slots, values, strict=True)}}
    return replace(scores, thetas=thetas, halves=halves), name


@given(relabelled(), PROFILE_NAMES)
def test_relabelling_slots_relabels_probabilities(example, profile):
    scores, name = example
    renamed = {c: {name[slot]: theta for slot, theta in row.items()} for c, row in scores.thetas.items()}
    halves = {c: {name[slot]: pair for slot, pair in row.items()} for c, row in scores.halves.items()}
    p, q = PROFILES[profile](scores), PROFILES[profile](replace(scores, thetas=renamed, halves=halves))
    assert {name[slot]: value for slot, value in p.items()} == pytest.approx(q)


@given(round_scores(), st.sampled_from(("paper", "averaged")))
def test_a_slot_that_all_criteria_prefer_to_prune_is_at_least_as_probable(scores, name):
    scores = replace(scores, strategy=Strategy.uniform(PLACES, NAMES))
    p = PROFILES[name](scores)
    for slots in scores.members().values():
        for a in slots:
            for b in slots:
                rows = [scores.oriented(c, [a, b]) for c in NAMES]
                if all(row[a] >= row[b] for row in rows):
                    assert p[a] >= p[b] - 1e-12
