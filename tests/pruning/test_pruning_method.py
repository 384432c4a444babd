import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_fakes import (
    CRITERIA,
    drive,
    execute,
    hashed_theta,
    make_space,
    make_spec,
    pa,
    planted_theta,
    sa,
)
from toy_jobs import digest, make_template

from prunepeft_ray.architecture import Architecture, Partition, Slot, partition_of
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.jobs import Method
from prunepeft_ray.pruning import PrunePEFT, Strategy
from prunepeft_ray.seeds import derive_seed

PROFILES = ("paper", "reference", "averaged")


def make_method(space=None, budget=1800, spec=None, strategy=None):
    space, spec = space or make_space(12), spec or make_spec()
    return PrunePEFT(spec, space, budget, make_template(spec, space), strategy)


def round_decisions(method):
    return [decision for decision in method.decisions if decision.step == "round"]


def removals(method):
    return [(d.step, d.index, d.criteria, d.slot) for d in method.decisions if d.removed]


def test_a_whole_search():
    method: Method = make_method()
    work = drive(method)
    assert [piece.kind for piece in work] == ["warmup"] * 13 + ["round"] * 3 + ["final"]
    assert [piece.label for piece in work[13:]] == ["round 1/3", "round 2/3", "round 3/3", "final retraining"]
    assert method.rounds_done == 3
    assert method.strategy.select == "frequency"
    assert method.best() == work[-1].job.architecture
    # 12 slots of mean cost must go: k = 4
    assert method.per_round == 4
    assert [len(piece.job.architecture) for piece in work[13:16]] == [24, 20, 16]
    assert make_space(12).parameters(method.best()) <= 1800


def constant_zeros(job, criterion, slot):
    return 1.0 if criterion == "zeros" else hashed_theta(job, criterion, slot)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_criterion_that_gives_every_slot_one_value_decides_nothing(profile):
    method = make_method(spec=make_spec(profile=profile, criteria=["weight", "zeros", "gradient"]))
    without = make_method(spec=make_spec(profile=profile, criteria=["weight", "gradient"]))
    drive(method, theta=constant_zeros)
    drive(without, theta=hashed_theta_without_zeros)
    assert method.strategy.abstained == ("zeros",)
    assert all("zeros" not in d.criteria for d in round_decisions(method))
    assert [(d.slot, d.removed) for d in round_decisions(method)] == [
        (d.slot, d.removed) for d in round_decisions(without)
    ]


def hashed_theta_without_zeros(job, criterion, slot):
    """The scores that the same job with ``zeros`` among its criteria would have."""
    return hashed_theta(replace(job, collect=("weight", "zeros", "gradient")), criterion, slot)


@pytest.mark.parametrize("profile", PROFILES)
def test_where_the_only_criterion_abstains_the_seed_draws_and_nobody_is_said_to_have_judged(profile):
    drawn = []
    for seed in range(4):
        method = make_method(spec=make_spec(seed=seed, profile=profile, criteria=["zeros"], blocks="none"))
        drive(method, theta=lambda *_: 1.0)
        assert {d.criteria for d in round_decisions(method)} == {()}
        drawn.append(method.best())
    assert len(set(drawn)) > 1


def test_the_jobs_of_rounds_and_of_the_final_retraining():
    spec = make_spec(seed=5, round_epochs=2, train_size=70, threshold=1e-6)
    *rounds, final = [piece.job for piece in drive(make_method(spec=spec)) if piece.kind != "warmup"]
    for index, job in enumerate(rounds, start=1):
        assert job.seed == derive_seed(5, "round", index)
        assert (job.training.epochs, job.training.patience, job.train_size) == (2, None, 70)
        assert (job.evaluate, job.test, job.collect, job.threshold) == ("none", False, CRITERIA, 1e-6)
    assert final.seed == derive_seed(5, "final")
    assert final.training == spec.training
    assert (final.train_size, final.evaluate, final.test, final.collect) == (None, "dev", True, ())
    assert final.threshold is None


def test_best_is_the_current_architecture_and_shrinks():
    method = make_method()
    sizes = []
    while not method.done:
        for piece in method.ask():
            method.tell(piece.job, execute(piece.job))
            sizes.append(len(method.best()))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 24
    assert sizes[-1] == sizes[-2] == len(method.best())


def test_decisions_of_rounds():
    method = make_method()
    work = drive(method)
    for index in (1, 2, 3):
        job = next(piece.job for piece in work if piece.label == f"round {index}/3")
        decisions = [d for d in round_decisions(method) if d.index == index]
        assert [d.slot for d in decisions] == [str(slot) for slot in job.architecture.slots]
        assert {d.job_id for d in decisions} == {job.id}
        assert math.fsum(d.probability for d in decisions) == pytest.approx(1)
        gone = [d.probability for d in decisions if d.removed]
        # the last round removes just enough: slots that fit again are kept, whatever their probability
        assert index == 3 or min(gone) >= max(d.probability for d in decisions if not d.removed)
    partitions = partition_of(make_space(12).supernet.slots, 12)
    for decision in round_decisions(method):
        partition = partitions[Slot.parse(decision.slot)]
        assert decision.partition == str(partition)
        assert decision.criteria == method.strategy.assignment[partition]


def test_rounds_are_evaluated_on_request_which_decides_nothing():
    found = []
    for evaluated in (False, True):
        method = make_method(spec=make_spec(evaluate_rounds=evaluated))
        work = drive(method, theta=lambda _job, criterion, slot: digest(criterion, slot))
        assert {piece.job.evaluate for piece in work if piece.kind == "round"} == {"dev" if evaluated else "none"}
        found.append([(d.index, d.slot, d.probability, d.removed) for d in round_decisions(method)])
    assert found[0] == found[1]


@st.composite
def searches(draw):
    layers = draw(st.integers(4, 8))
    space = make_space(layers, draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    smallest = min(space.slot_parameters(slot) for slot in space.supernet.slots)
    budget = draw(st.integers(smallest, space.parameters(space.supernet) + 5))
    spec = make_spec(
        seed=draw(st.integers(0, 50)),
        warmup={
            "select": draw(st.sampled_from(("frequency", "effectiveness"))),
            "turns": draw(st.integers(1, 2)),
            "remove": draw(st.integers(1, 5)),
        },
        criteria=draw(st.lists(st.sampled_from((*CRITERIA, "gate")), min_size=1, max_size=3)),
        profile=draw(st.sampled_from(PROFILES)),
        compare=draw(st.sampled_from(("within-kind", "raw"))),
        blocks=draw(st.sampled_from(("spindle", "reference", "none"))),
        rounds=draw(st.integers(1, 4)),
        remove=draw(st.none() | st.integers(1, 4)),
        dynamic=draw(st.booleans()),
    )
    return space, budget, spec


@settings(max_examples=60, deadline=None)
@given(searches())
def test_every_search_ends_within_its_budget(search):
    space, budget, spec = search
    method = make_method(*search)
    work = drive(method)
    final = method.best()
    assert len(final) > 0
    assert space.parameters(final) <= budget
    assert work[-1].kind == "final"
    assert work[-1].job.architecture == final
    assert len({piece.job.id for piece in work}) == len(work)

    architecture = space.supernet
    for index in range(1, method.rounds_done + 1):
        decisions = [d for d in round_decisions(method) if d.index == index]
        # exactly the slots that are left are judged: what was removed never returns
        assert [d.slot for d in decisions] == [str(slot) for slot in architecture.slots]
        assert space.parameters(architecture) > budget
        removed = [Slot.parse(d.slot) for d in decisions if d.removed]
        assert removed
        if index < spec.pruning.rounds:
            assert len(removed) <= method.per_round
        architecture = architecture.without(removed)
    assert architecture == final


@settings(max_examples=25, deadline=None)
@given(searches(), st.randoms(use_true_random=False))
def test_replaying_in_another_order_decides_the_same(search, rng):
    first, second = make_method(*search), make_method(*search)
    work = drive(first)
    shuffled = drive(second, shuffle=rng)
    assert second.decisions == first.decisions
    assert second.strategy == first.strategy
    assert second.best() == first.best()
    assert {piece.job.id for piece in shuffled} == {piece.job.id for piece in work}


def test_an_interrupted_search_goes_on_from_what_was_told():
    whole = make_method()
    work = drive(whole)
    for stored in range(len(work)):
        known = {piece.job.id for piece in random.Random(stored).sample(work, stored)}
        method, ran = make_method(), []
        while not method.done:
            for piece in method.ask():
                if piece.job.id not in known:
                    ran.append(piece.job.id)
                method.tell(piece.job, execute(piece.job))
        assert len(ran) == len(work) - stored
        assert method.decisions == whole.decisions


def test_the_seed_matters_and_decides():
    again = [make_method(spec=make_spec(seed=seed)) for seed in (1, 1, 2)]
    works = [drive(method) for method in again]
    assert works[0] == works[1]
    assert again[0].decisions == again[1].decisions
    assert {piece.job.id for piece in works[0]}.isdisjoint(piece.job.id for piece in works[2])


# block, kind and the two of the block's four layers that matter
PLANTED = [
    (0, "PA", 0, 3),
    (1, "PA", 1, 2),
    (2, "PA", 0, 1),
    (3, "PA", 2, 3),
    (0, "SA", 1, 3),
    (1, "SA", 0, 2),
    (2, "SA", 2, 3),
    (3, "SA", 0, 1),
]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("select", ["frequency", "effectiveness"])
def test_every_profile_finds_what_was_planted(profile, rounds, select):
    # 4 slots in each of 8 partitions, of which 2 matter; they are not the same layers in every partition
    slots = make_space(16, 100, 100).supernet.slots
    keep = {Slot(4 * block + place, kind) for block, kind, *places in PLANTED for place in places}
    # the contrast is small: the released code prefers large Theta within its list
    importance = {slot: (1.05 if slot in keep else 1.0) + digest(slot) / 1000 for slot in slots}
    spec = make_spec(warmup={"select": select}, profile=profile, rounds=rounds, blocks=(0.25, 0.5, 0.75))
    method = make_method(make_space(16, 100, 100), 1600, spec)
    drive(
        method,
        theta=planted_theta(importance),
        loss=lambda job: sum(importance[slot] for slot in slots if slot not in job.architecture),
    )
    assert set(method.best().slots) == keep


@pytest.mark.parametrize("unit", [1.0, 1000.0, 0.001])
def test_averaged_finds_what_was_planted_anywhere(unit):
    # 12 slots that matter, crowded into few partitions, and SA measured in another unit
    space = make_space(24)
    keep = {*pa(9, 10, 11, 12, 13, 14), *sa(20, 21, 22, 23, 8, 0)}
    importance = {slot: (3.0 if slot in keep else 1.0) + digest(slot) / 2 for slot in space.supernet.slots}
    seen = {slot: value * (unit if slot.kind == "SA" else 1) for slot, value in importance.items()}

    def theta(job, criterion, slot):
        return 2000 * unit - seen[slot] if criterion == "threshold" else seen[slot]

    method = make_method(space, 1800, make_spec(profile="averaged", rounds=4))
    drive(method, theta)
    assert set(method.best().slots) == keep


@pytest.mark.parametrize("profile", PROFILES)
def test_no_unit_decides_between_the_kinds(profile):
    def scaled(job, criterion, slot):
        return base(job, criterion, slot) * (1000 if slot.kind == "SA" else 1)

    def base(job, criterion, slot):
        # depends on the slots that are left, not on the job's id, so that both searches see the same
        return 0.5 + digest(job.architecture.id, criterion, slot)

    spec = make_spec(profile=profile)
    plain, other = make_method(spec=spec), make_method(spec=spec)
    drive(plain, base)
    drive(other, scaled)
    assert removals(other) == removals(plain)
    assert other.strategy == plain.strategy
    assert other.best() == plain.best()


def test_raw_comparison_removes_the_kind_with_the_smaller_unit():
    def theta(job, criterion, slot):
        return hashed_theta(job, criterion, slot) + (1000 if slot.kind == "SA" else 0)

    spec = make_spec(criteria=("weight", "gradient"), compare="raw")
    method = make_method(spec=spec, budget=2400)
    drive(method, theta)
    assert {slot.kind for slot in method.best().slots} == {"SA"}


def test_a_loaded_strategy_needs_no_warm_up():
    first = make_method()
    drive(first)
    strategy = Strategy.from_dict(json.loads(json.dumps(first.strategy.to_dict())))
    method = make_method(strategy=strategy)
    work = drive(method)
    assert [piece.kind for piece in work] == ["round"] * 3 + ["final"]
    assert method.strategy == strategy
    assert method.best() == first.best()
    assert method.decisions == round_decisions(first)


def test_a_strategy_moves_to_a_deeper_model():
    first = make_method()
    drive(first)
    deeper = make_method(make_space(24), 3600, strategy=first.strategy)
    assert [piece.kind for piece in drive(deeper)] == ["round"] * 3 + ["final"]


def test_criteria_of_a_loaded_strategy_are_collected():
    partitions = set(partition_of(make_space(12).supernet.slots, 12).values())
    method = make_method(
        spec=make_spec(criteria=("weight",)), strategy=Strategy.uniform(partitions, ("gate", "weight"))
    )
    work = drive(method)
    assert work[0].job.collect == ("weight", "gate")


def test_one_criterion_needs_no_warm_up():
    method = make_method(spec=make_spec(criteria=("gradient",)))
    assert [piece.kind for piece in drive(method)] == ["round"] * 3 + ["final"]
    assert set(method.strategy.assignment.values()) == {("gradient",)}


def test_dynamic_learns_the_strategy_anew_before_every_round():
    method = make_method(spec=make_spec(dynamic=True))
    kinds = [piece.kind for piece in drive(method)]
    text = "".join(kind[0] for kind in kinds)
    assert text == "w" * 13 + "r" + "w" * 13 + "r" + "w" * 13 + "rf"
    # the last strategy was learned on the 16 slots that were left
    assert len(Architecture.from_dict(method.strategy.origin["architecture"])) == 16


def test_dynamic_starts_from_a_loaded_strategy():
    partitions = set(partition_of(make_space(12).supernet.slots, 12).values())
    strategy = Strategy.uniform(partitions, CRITERIA)
    work = drive(make_method(spec=make_spec(dynamic=True), strategy=strategy))
    assert [piece.kind for piece in work][:2] == ["round", "warmup"]


def test_the_origin_of_a_strategy_says_where_it_was_learned():
    method = make_method(spec=make_spec(blocks=(0.25, 0.5, 0.75)))
    drive(method)
    origin = json.loads(json.dumps(method.strategy.origin))
    assert origin["model_fingerprint"] == "mf"
    assert origin["task_fingerprint"] == "tf"
    assert origin["layers"] == 12
    assert origin["blocks"] == [0.25, 0.5, 0.75]
    assert origin["warmup"]["turns"] == 3


def test_a_supernet_within_the_budget_is_only_retrained():
    method = make_method(budget=3600)
    assert [piece.kind for piece in drive(method)] == ["final"]
    assert method.best() == make_space(12).supernet
    assert method.strategy is None
    assert method.rounds_done == 0


def test_rounds_stop_as_soon_as_the_budget_fits():
    # one slot has to go: the first round does it
    method = make_method(budget=3550)
    work = drive(method)
    assert [piece.kind for piece in work].count("round") == method.rounds_done == 1


def test_a_given_k_is_kept_to_and_the_last_round_removes_the_rest():
    method = make_method(spec=make_spec(remove=1), budget=1800)
    sizes = [len(piece.job.architecture) for piece in drive(method) if piece.kind == "round"]
    assert sizes == [24, 23, 22]
    assert make_space(12).parameters(method.best()) <= 1800


def test_scores_that_are_no_numbers_end_the_search():
    method = make_method()
    diverged = "warm-up turn 1/3: all criteria: the training diverged: criterion 'weight' of slot .* is nan"
    with pytest.raises(RunError, match=diverged):
        drive(method, theta=lambda job, criterion, slot: math.nan)
    assert not method.done


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"criteria": ("weight", "wieght")}, "unknown criterion 'wieght': did you mean 'weight'"),
        ({"profile": "papre"}, "unknown profile 'papre': did you mean 'paper'"),
        ({"blocks": "spindel"}, "unknown 'spindel'"),
    ],
)
def test_unknown_names_are_refused_at_once(update, message):
    spec = make_spec()
    spec = spec.model_copy(update={"pruning": spec.pruning.model_copy(update=update)})
    with pytest.raises(InputError, match=message):
        make_method(spec=spec)


def test_an_unknown_selector_is_refused_at_once():
    spec = make_spec()
    spec = spec.model_copy(update={"warmup": spec.warmup.model_copy(update={"select": "best"})})
    with pytest.raises(InputError, match="unknown warm-up selector 'best'"):
        make_method(spec=spec)


def test_impossible_searches_are_refused_at_once():
    with pytest.raises(InputError, match="too shallow"):
        make_method(make_space(3), 500)
    with pytest.raises(InputError, match="is too small for any slot: the smallest has 100"):
        make_method(budget=99)


def test_a_strategy_of_other_partitions_is_refused():
    strategy = Strategy.uniform([Partition(0, "PA"), Partition(0, "SA")], CRITERIA)
    with pytest.raises(InputError, match=r"lacks partition 1\.PA; its partitions are 0\.PA, 0\.SA"):
        make_method(strategy=strategy)
    more = Strategy.uniform([Partition(block, kind) for block in range(5) for kind in ("PA", "SA", "PT")], CRITERIA)
    with pytest.raises(InputError, match=r"has partition 4\.PA, which does not exist here; its partitions are 0\.PA, "):
        make_method(strategy=more)
    unknown = Strategy.uniform(partition_of(make_space(12).supernet.slots, 12).values(), ("magic",))
    with pytest.raises(InputError, match="unknown criterion 'magic'"):
        make_method(strategy=unknown)
