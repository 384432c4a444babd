import random

import pytest
from baseline_toys import drive, make_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from prunepeft_baselines.pruning_family import NO_PARTITION, PRUNEPEFT, SINGLE
from prunepeft_ray import InputError, NoOptions, PrunePEFT
from prunepeft_ray.config import PAPER_CRITERIA, validate

BUILDS = {f"prunepeft:{variant}": (PRUNEPEFT, {"variant": variant}) for variant in PRUNEPEFT.arguments}
BUILDS |= {"single": (SINGLE, {"criterion": "weight"}), "no-partition": (NO_PARTITION, {})}
each = pytest.mark.parametrize("name", BUILDS)


def build(name, problem):
    info, options = BUILDS[name]
    return info.build(problem, info.options(**options))


def kinds(work):
    return [piece.kind for piece in work]


@each
def test_it_repeats_itself_in_any_order_of_results_and_plans_enough(name):
    methods = [build(name, make_problem(layers=6, seed=seed)) for seed in (3, 3, 4)]
    runs = [drive(methods[0]), drive(methods[1], shuffle=random.Random(0)), drive(methods[2])]
    ids = [[piece.job.id for piece in run] for run in runs]
    assert ids[0] == ids[1] != ids[2]
    assert methods[0].best() == methods[1].best()
    assert methods[0].name == name.partition(":")[0]
    assert len(ids[0]) <= methods[0].planned


@each
@given(layers=st.integers(4, 7), share=st.floats(0.2, 0.95), seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_it_ends_within_the_budget(name, layers, share, seed):
    whole = make_problem(layers)
    budget = int(share * whole.space.parameters(whole.space.supernet))
    problem = make_problem(layers, budget=budget, seed=seed)
    method = build(name, problem)
    drive(method)
    assert 0 < problem.parameters(method.best()) <= budget


def test_the_default_is_prunepeft_as_it_is():
    problem = make_problem(layers=6)
    plain = PrunePEFT(problem.spec, problem.space, problem.budget, problem.template)
    assert [p.job.id for p in drive(plain)] == [p.job.id for p in drive(build("prunepeft:default", problem))]


@pytest.mark.parametrize(("options", "size"), [({}, 60), ({"train_size": 40}, 40)])
def test_low_fidelity_trains_its_rounds_on_the_warm_ups_few_examples(options, size):
    problem = make_problem(layers=6, warmup={"train_size": 60})
    work = drive(PRUNEPEFT.build(problem, PRUNEPEFT.options(variant="low-fidelity", **options)))
    assert {p.job.train_size for p in work if p.kind == "round"} == {size}
    assert {p.job.train_size for p in work if p.kind == "final"} == {None}
    assert {p.job.train_size for p in drive(build("prunepeft:default", problem)) if p.kind == "round"} == {None}


@pytest.mark.parametrize(
    ("name", "jobs"),
    # 3 rounds and the final retraining; frequency: 1 shared turn, 2 turns of 6; effectiveness: 1 scoring, 8 x 6 trials
    [
        ("prunepeft:default", 13 + 4),
        ("prunepeft:dynamic", 3 * 13 + 4),
        ("prunepeft:effectiveness", 49 + 4),
        ("single", 4),
    ],
)
def test_the_jobs_planned_are_those_of_warm_ups_rounds_and_retraining(name, jobs):
    assert build(name, make_problem(layers=6)).planned == jobs


def test_dynamic_warms_up_before_every_round():
    work = kinds(drive(build("prunepeft:dynamic", make_problem(layers=6))))
    parts = [work[i] for i in range(len(work)) if i == 0 or work[i] != work[i - 1]]
    assert parts == ["warmup", "round"] * work.count("round") + ["final"]
    assert work.count("round") > 1


def test_effectiveness_learns_from_held_out_losses():
    work = drive(build("prunepeft:effectiveness", make_problem(layers=6)))
    assert {p.job.evaluate for p in work if p.kind == "warmup"} == {"holdout"}


def test_a_single_criterion_needs_no_warm_up_and_collects_nothing_else():
    method = build("single", make_problem(layers=6))
    work = drive(method)
    assert set(kinds(work)) == {"round", "final"}
    assert {p.job.collect for p in work if p.kind == "round"} == {("weight",)}
    assert {d.partition for d in method.decisions} == {"0.PA", "0.SA"}


def test_any_registered_criterion_works_alone():
    drive(SINGLE.build(make_problem(layers=4), SINGLE.options(criterion="gate")))


def test_an_unknown_criterion_or_variant_names_the_known_ones():
    with pytest.raises(InputError, match="unknown criterion 'wieght': did you mean 'weight'"):
        SINGLE.build(make_problem(), SINGLE.options(criterion="wieght"))
    with pytest.raises(InputError, match=r"method 'prunepeft:fast': variant: .*'low-fidelity'.*got 'fast'"):
        validate(PRUNEPEFT.options, {"variant": "fast"}, "method 'prunepeft:fast'")
    with pytest.raises(InputError, match="'criterion' is missing"):
        validate(SINGLE.options, {}, "method 'single'")


def test_the_six_of_the_paper_are_listed():
    assert SINGLE.arguments == PAPER_CRITERIA


def test_without_partitions_all_criteria_take_part_and_blocks_do_not():
    method = NO_PARTITION.build(make_problem(layers=6), NoOptions())
    work = drive(method)
    assert {d.partition for d in method.decisions} == {"0.PA", "0.SA"}
    assert {p.job.collect for p in work if p.kind == "round"} == {PAPER_CRITERIA}


def test_a_budget_that_holds_no_slot_is_an_input_error():
    with pytest.raises(InputError, match="a budget of 5 parameters is too small for any slot"):
        build("single", make_problem(budget=5))
