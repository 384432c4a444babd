"""The cost model: amounts of work by hand, and a fit that finds the costs from which durations were made."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_fakes import filled, make_setting, make_study

from prunepeft_ray.errors import InputError
from prunepeft_ray.execution.simulation.costs import Measured, fit_costs, left_out_errors
from prunepeft_ray.execution.simulation.footprint import (
    TERMS,
    Counts,
    Footprint,
    Workload,
    footprint,
    planned_counts,
)
from prunepeft_ray.execution.simulation.outcomes import PredictedResults, made_up_metrics

WORKLOAD = Workload(
    layers=4, hidden=8, layer_parameters=1000, train=100, dev=30, test=50, train_tokens=10, eval_tokens=20
)
PER_UNIT = (0.5, 0.01, 0.002, 0.0005, 0.02, 0.008)


def job_of(study, **changes):
    setting = make_setting(study, next(study.cells()))
    return replace(setting.problem.final_job(filled(4, 6), 0), **changes)


# amounts


def test_a_retraining_trains_all_epochs_and_evaluates_dev_after_each_and_test_once():
    job = job_of(make_study("ones", training={"epochs": 3, "batch_size": 32}))
    assert planned_counts(job, WORKLOAD, 1) == Counts(3 * 100, 3 * 30 + 50, 3 * 4)


def test_a_subset_that_is_held_out_in_part_is_trained_on_in_part():
    job = job_of(
        make_study("ones", training={"epochs": 1}), train_size=40, holdout=0.25, evaluate="holdout", test=False
    )
    assert planned_counts(job, WORKLOAD, 1) == Counts(30, 10, 2)


def test_a_subset_is_no_larger_than_the_split():
    job = job_of(make_study("ones", training={"epochs": 1}), train_size=1000, evaluate="none", test=False)
    assert planned_counts(job, WORKLOAD, 1).train_examples == 100


def test_operations_by_hand():
    # slots 4 and 6 are in layers 2 and 3 of 0 to 3: gradients flow through two of four layers
    work = footprint(filled(4, 6), ("weight",), 2, 70, Counts(10, 5, 3), WORKLOAD)
    train_layer, eval_layer = 2 * 1000 + 4 * 10 * 8, 2 * 1000 + 4 * 20 * 8
    assert work.train_flops == 10 * 10 * ((4 + 2) * train_layer + 6 * 70)
    assert work.eval_flops == 5 * 20 * (4 * eval_layer + 2 * 70)
    assert (work.steps, work.slots, work.criteria, work.workers) == (3, 2, 1, 1)


def test_without_slots_gradients_flow_through_no_layer():
    empty = footprint(filled(), (), 1, 0, Counts(1, 0, 1), WORKLOAD)
    assert empty.train_flops == 10 * 4 * (2 * 1000 + 4 * 10 * 8)


def test_more_workers_than_micro_batches_are_of_no_use():
    assert footprint(filled(0), (), 2, 10, Counts(1, 0, 1, workers=8), WORKLOAD).workers == 2


def test_workers_share_everything_but_what_each_does_per_job_and_step():
    one = Footprint(10, 2, 3, 4e9, 8e9)
    assert one.amounts == (1, 10, 20, 60, 4, 8)
    assert replace(one, workers=2).amounts == (1, 10, 10, 30, 2, 4)


# fit

FOOTPRINTS = st.builds(
    Footprint,
    steps=st.integers(1, 500),
    slots=st.integers(0, 48),
    criteria=st.integers(0, 7),
    train_flops=st.floats(1e9, 1e13),
    eval_flops=st.floats(0, 1e13),
    workers=st.integers(1, 4),
)


def measured(footprints, noise=0.0):
    rng = np.random.default_rng(0)
    return [Measured(f, float(np.dot(f.amounts, PER_UNIT)) * math.exp(rng.normal(0, noise))) for f in footprints]


def various(count=60):
    rng = np.random.default_rng(1)
    return [
        Footprint(
            int(rng.integers(1, 300)),
            int(rng.integers(0, 48)),
            int(rng.integers(0, 8)),
            rng.uniform(1e10, 1e13),
            rng.uniform(0, 1e13),
            int(rng.integers(1, 5)),
        )
        for _ in range(count)
    ]


def test_the_fit_finds_the_costs_from_which_durations_were_made():
    costs = fit_costs(measured(various()), "here")
    assert costs.per_unit == pytest.approx(PER_UNIT, rel=1e-6)
    assert costs.error == pytest.approx(0, abs=1e-9)
    assert costs.seconds(Footprint(10, 2, 3, 4e9, 8e9)) == pytest.approx(0.5 + 0.1 + 0.04 + 0.03 + 0.08 + 0.064)
    assert list(costs.named()) == list(TERMS)


def test_the_error_is_that_of_jobs_left_out():
    errors = left_out_errors(measured(various(), noise=0.1))
    assert len(errors) == 60
    assert 0.03 < np.median(errors) < 0.15


def test_at_most_a_limited_number_of_jobs_is_left_out():
    assert len(left_out_errors(measured(various(450)))) == 150


@given(st.lists(FOOTPRINTS, min_size=1, max_size=8), st.floats(0, 1))
def test_no_cost_is_negative_however_few_and_noisy_the_measurements(footprints, noise):
    costs = fit_costs(measured(footprints, noise), "here")
    assert all(value >= 0 for value in costs.per_unit)
    assert all(costs.seconds(one) > 0 for one in footprints)


def test_a_single_measurement_has_no_known_error():
    assert math.isnan(fit_costs(measured(various(1)), "here").error)


def test_nothing_measured_is_an_error():
    with pytest.raises(InputError, match="runs/x: there are no finished jobs to take durations from"):
        fit_costs([], "runs/x")


# predicted results


def test_a_predicted_result_has_the_predicted_costs_and_everything_that_methods_read():
    study = make_study("ones", training={"epochs": 2})
    setting = make_setting(study, next(study.cells()))
    costs = fit_costs(measured(various()), "here")
    results = PredictedResults({("m", "t"): setting.problem}, {("m", "t"): WORKLOAD}, costs, workers=2)
    job = replace(setting.problem.final_job(filled(4, 6), 0), collect=("weight",))
    found = results(job)
    assert found == results(job)
    assert found.parameters == setting.problem.parameters(filled(4, 6))
    assert (found.cost.train_examples, found.cost.eval_examples, found.cost.steps) == (200, 110, 14)
    assert found.cost.device_seconds == 2 * found.cost.wall_seconds > 0
    assert found.metrics == found.test == made_up_metrics(job)
    assert set(found.scores["weight"]) == {str(slot) for slot in job.architecture.slots}


def test_metrics_may_come_from_a_table():
    study = make_study("ones")
    setting = make_setting(study, next(study.cells()))
    costs = fit_costs(measured(various()), "here")
    table = {filled(0): 0.75}
    results = PredictedResults(
        {("m", "t"): setting.problem},
        {("m", "t"): WORKLOAD},
        costs,
        metrics=lambda job: {job.metric: table[job.architecture]},
    )
    assert results(setting.problem.candidate_work(filled(0), "c").job).metrics == {"accuracy": 0.75}
