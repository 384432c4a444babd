"""Studies in virtual time: what they take lies within its bounds, and methods ask as they do for real."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from studies import SMALL, ignore, study_here
from study_fakes import MemoryStore, Raising, Trainer, digest, make_setting, make_study, run

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.execution.session import resolve
from prunepeft_ray.execution.simulation.outcomes import StoredResults
from prunepeft_ray.execution.simulation.simulator import simulate
from prunepeft_ray.execution.simulation.store import SimulatedStore
from prunepeft_ray.execution.study.plan import plan_study
from prunepeft_ray.methods import MethodInfo
from prunepeft_ray.results import ResultsStore
from prunepeft_ray.study import StudySpec

FAKES = ("ones", "twos", "order", "prune")


def settings_of(study):
    return [make_setting(study, cell) for cell in study.cells()]


def timed(seconds):
    """Made-up results of jobs that take the seconds given by a function."""
    trainer = Trainer(MemoryStore())

    def result_of(job):
        result = trainer.result(SimpleNamespace(job=job, label=""))
        return replace(result, cost=replace(result.cost, wall_seconds=seconds(job)))

    return result_of


def random_seconds(seed):
    return timed(lambda job: 10 * digest(seed, job.id))


class Ticks:
    """A clock on which every thought takes the same time."""

    def __init__(self, seconds):
        self.now, self.seconds = 0.0, seconds

    def __call__(self):
        self.now += self.seconds
        return self.now


# hand-computed


def test_one_device_runs_job_after_job(methods):
    # four candidates in two batches and a retraining for the only seed
    found = simulate(settings_of(make_study("ones", seeds=[0])), timed(lambda job: 2.0), 1)
    assert (found.makespan, found.utilisation, found.limit) == (10.0, 1.0, "devices")
    # of each batch, one job; then the retraining
    assert found.critical == 6.0


def test_two_devices_run_a_batch_at_once_and_the_retraining_alone(methods):
    found = simulate(settings_of(make_study("ones", seeds=[0])), timed(lambda job: 2.0), 2)
    assert (found.makespan, found.device_seconds) == (6.0, 10.0)
    assert found.utilisation == pytest.approx(10 / 12)
    assert found.limit == "critical path"


def test_a_method_that_thinks_delays_what_it_asks_for(methods):
    # it thinks a second to begin, and for each of its five results; both jobs of a batch end at once
    found = simulate(settings_of(make_study("ones", seeds=[0])), timed(lambda job: 2.0), 2, Ticks(1.0))
    assert found.thinking == 6.0
    assert found.makespan == 1 + 2 + 2 + 2 + 2 + 2 + 1


def test_while_a_method_thinks_a_device_runs_the_jobs_of_others(methods):
    # nine jobs without a gap: only the first thought, before there is a job, and the last, about the last, add to them
    found = simulate(settings_of(make_study("ones", "twos", seeds=[0])), timed(lambda job: 2.0), 1, Ticks(1.0))
    assert found.thinking == 2 + 9
    assert found.makespan == 1 + 9 * 2 + 1


def test_a_job_of_two_workers_occupies_two_devices(methods):
    study = make_study("ones", seeds=[0], execution={"workers": 2})
    found = simulate(settings_of(study), timed(lambda job: 2.0), 5)
    assert (found.makespan, found.device_seconds) == (6.0, 20.0)
    assert found.utilisation == pytest.approx(20 / 30)


def test_too_few_devices_for_a_job_are_an_error(methods):
    study = make_study("ones", execution={"workers": 2})
    with pytest.raises(InputError, match="1 devices: a job of this study needs 2"):
        simulate(settings_of(study), timed(lambda job: 2.0), 1)


def test_concurrency_is_respected(methods):
    study = make_study({"name": "ones", "concurrency": 1}, seeds=[0])
    assert simulate(settings_of(study), timed(lambda job: 2.0), 8).makespan == 10.0


def test_a_failing_method_ends_its_search_only(methods):
    methods(raising=MethodInfo("toy", lambda problem, options: Raising(problem, "tell", ValueError("no"))))
    found = simulate(settings_of(make_study("raising", "ones", seeds=[0])), timed(lambda job: 1.0), 2)
    assert [search.state for search in found.searches] == ["failed", "done"]


def test_an_error_of_the_results_ends_the_simulation(methods):
    def missing(job):
        raise RunError("no result")

    with pytest.raises(RunError, match="no result"):
        simulate(settings_of(make_study("ones")), missing, 2)


# bounds

STUDIES = st.lists(st.sampled_from(FAKES), min_size=1, max_size=4, unique=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STUDIES, st.integers(1, 3), st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 3.0]))
def test_no_study_is_faster_than_its_bounds(methods, names, seeds, devices, seed, thought):
    study = make_study(*names, seeds=range(seeds))
    found = simulate(settings_of(study), random_seconds(seed), devices, Ticks(thought))
    slack = 1 + 1e-9
    assert found.device_seconds / devices <= found.makespan * slack
    assert found.critical <= found.makespan * slack
    assert found.thinking <= found.makespan * slack
    assert 0 < found.utilisation <= slack
    assert len(found.jobs) == len(set(found.jobs))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STUDIES, st.integers(1, 3), st.integers(1, 12), st.integers(0, 10**6))
def test_no_device_idles_while_a_job_waits(methods, names, seeds, devices, seed):
    # Graham's bound for list scheduling: whenever a device idles, the longest chain is being worked on
    study = make_study(*names, seeds=range(seeds))
    found = simulate(settings_of(study), random_seconds(seed), devices)
    assert found.makespan <= (found.device_seconds / devices + found.critical) * (1 + 1e-9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(STUDIES, st.integers(1, 8), st.integers(0, 10**6))
def test_a_simulation_is_deterministic(methods, names, devices, seed):
    study = make_study(*names)
    one, other = (simulate(settings_of(study), random_seconds(seed), devices) for _ in range(2))
    assert (one.jobs, one.makespan, one.critical) == (other.jobs, other.makespan, other.critical)


# against the real thing


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(STUDIES)
def test_one_device_asks_for_the_jobs_that_a_real_study_asks_for(methods, names):
    # "order" proposes by the order of results, so that the order must be the same, too
    study = make_study(*names)
    trainer = Trainer(MemoryStore())
    run(study, trainer)
    found = simulate(settings_of(study), timed(lambda job: 1.0), 1)
    assert Counter(found.jobs) == Counter(trainer.ids)


def test_a_real_study_is_simulated_job_by_job(tiny_bert, small_task, tmp_path):
    methods = ["prunepeft", "random-search", "uniform-lora"]
    spec = StudySpec.model_validate(SMALL | {"methods": methods, "tasks": [str(small_task)], "models": [tiny_bert]})
    folder, trained = study_here(spec, tmp_path / "run")
    store = ResultsStore(folder.results)
    plans, _ = plan_study(resolve(spec), ignore)
    chosen = {row.method: row.architecture_id for row in store.read("searches").itertuples()}
    for devices in (1, 7):
        simulated = SimulatedStore()
        found = simulate(plans, StoredResults(store), devices, store=simulated)
        assert sorted(found.jobs) == sorted(work.job.id for work in trained)
        assert found.device_seconds == pytest.approx(store.read("jobs").wall_seconds.sum())
        outcomes = {one.method: one.architecture_id for one in simulated.outcomes.values()}
        assert outcomes == chosen


def test_a_job_without_a_stored_result_is_an_error(methods, tmp_path):
    with pytest.raises(RunError, match="has no result in"):
        simulate(settings_of(make_study("ones")), StoredResults(ResultsStore(tmp_path)), 1)
