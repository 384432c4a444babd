"""All searches of a study at once: who gets the next job, who is told, and what a kill changes: nothing."""

import threading
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_fakes import (
    TRAIN_SIZE,
    Killed,
    MemoryStore,
    OrderToy,
    Toy,
    Trainer,
    digest,
    filled,
    make_study,
    run,
    start,
    toys,
)

from prunepeft_ray.errors import RunError
from prunepeft_ray.execution.study.dispatcher import run_here
from prunepeft_ray.methods import MethodInfo
from prunepeft_ray.waiting import wait_until


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def trainer(store):
    return Trainer(store)


def quiet(study_run):
    """Wait until no method thinks."""
    wait_until(lambda: not study_run._pending, 10, "a method thinks on", pause=0.001)


def take(study_run):
    """All jobs that may run now, once no method thinks."""
    quiet(study_run)
    found = []
    while (one := study_run.next()) is not None:
        found.append(one)
    quiet(study_run)
    return found


def finish(study_run, trainer, found):
    for search, work in found:
        study_run.finish(work.job.id, trainer(search, work))
    quiet(study_run)


def told_ids(store, method, seed=0):
    found = (one for one in store.requests.values() if (one.method, one.seed) == (method, seed))
    return [one.job_id for one in sorted(found, key=lambda one: one.position)]


# a job that several want


def test_a_job_that_two_searches_want_runs_once_and_is_charged_to_both(methods, store, trainer):
    methods(twin=toys([filled(0), filled(1)], [filled(2), filled(3)]))
    searches = run(make_study("ones", "twin"), trainer).searches
    assert len(trainer.ids) == len(set(trainer.ids))
    for seed in (0, 1):
        ones, twins = told_ids(store, "ones", seed), told_ids(store, "twin", seed)
        assert set(ones) == set(twins)
        assert len(ones) == len(twins) == 6
    assert [search.examples for search in searches] == [4 * TRAIN_SIZE + 2 * 20 * TRAIN_SIZE] * 4
    assert len(store.requests) == 24


def test_a_job_that_runs_already_is_waited_for(methods, store, trainer):
    methods(twin=toys([filled(0), filled(1)]))
    study = start(make_study("ones", "twin", seeds=[0]), store)
    found = take(study)
    assert sorted(work.label for _, work in found) == ["candidate 1", "candidate 2"]
    assert [row.running for row in study.progress()] == [2, 2]
    finish(study, trainer, found)
    assert [search.told for search in study.searches] == [2, 2]
    study.close()


def test_a_job_that_another_search_finished_while_it_waited_in_line_does_not_run_again(methods, store, trainer):
    methods(late=toys([filled(4), filled(5), filled(0)]))
    study = start(make_study("ones", {"name": "late", "concurrency": 1}, seeds=[0]), store)
    found = take(study)
    # the third candidate of the second method is still in line when the first method's comes back
    assert sum(search.cell.method.label == "late" for search, _ in found) == 1
    finish(study, trainer, found)
    run_here(study, trainer)
    assert len(trainer.ids) == len(set(trainer.ids))
    assert [search.state for search in study.searches] == ["done", "done"]
    shared = set(told_ids(store, "ones")) & set(told_ids(store, "late"))
    assert len(shared) >= 1


def test_a_study_wants_as_many_jobs_at_once_as_its_methods_allow(methods, store, trainer):
    methods(wide=toys([filled(4), filled(5), filled(0)]))
    study = start(make_study("ones", {"name": "wide", "concurrency": 1}, seeds=[0]), store)
    quiet(study)
    # both first jobs of the one, and one of the three of the other
    assert study.wanted == 3
    found = take(study)
    assert len(found) == study.wanted == 3
    finish(study, trainer, found)
    run_here(study, trainer)
    assert study.wanted == 0


def test_a_job_that_is_in_the_store_is_not_run(methods, store, trainer):
    run(make_study("ones", seeds=[0]), trainer)
    count = len(trainer.ran)
    methods(twin=toys([filled(0), filled(1)], [filled(2), filled(3)]))
    run(make_study("ones", "twin", seeds=[0]), trainer)
    assert len(trainer.ran) == count
    assert set(told_ids(store, "twin")) == set(told_ids(store, "ones"))


# whose turn it is


def test_searches_take_turns(methods, store, trainer):
    methods(wide=toys([filled(place, 6, 7) for place in range(4)]))
    study = start(make_study("wide", "ones", "twos", seeds=[0]), store)
    turns = [search.cell.method.label for search, _ in take(study)]
    assert turns == ["wide", "ones", "twos", "wide", "ones", "twos", "wide", "wide"]
    study.close()


def test_no_search_starves_behind_a_long_one(methods, store):
    methods(wide=toys([filled(a, b) for a in range(8) for b in range(a)]))
    study = start(make_study("wide", "order", seeds=[0, 1, 2]), store)
    quiet(study)
    first = [study.next()[0] for _ in range(6)]
    assert len({(search.cell.method.label, search.cell.seed) for search in first}) == 6
    study.close()


@pytest.mark.parametrize("limit", [1, 2])
def test_a_method_has_no_more_jobs_running_than_its_limit_over_all_its_searches(methods, store, trainer, limit):
    methods(wide=toys([filled(place) for place in range(6)]))
    study = start(make_study({"name": "wide", "concurrency": limit}, "order"), store)
    while not study.over:
        found = take(study)
        running = [search for search, _ in found if search.cell.method.label == "wide"]
        assert len(running) <= limit
        finish(study, trainer, found)
    assert all(search.state == "done" for search in study.searches)
    study.close()


def test_waiting_for_a_job_of_another_search_counts_as_running(methods, store, trainer):
    methods(twin=toys([filled(0), filled(1), filled(6), filled(7)]))
    study = start(make_study("ones", {"name": "twin", "concurrency": 1}, seeds=[0]), store)
    while not study.over:
        found = take(study)
        assert study.progress()[1].running <= 1
        finish(study, trainer, found)
    study.close()


def test_a_search_that_failed_gives_up_its_place_in_line(methods, store, trainer):
    def build(problem, options):
        return Toy(problem, [[filled(place) for place in range(8)]], keep_failures=False)

    methods(fragile=MethodInfo("toy", build))
    trainer.failing = ["candidate 1"]
    study = start(make_study({"name": "fragile", "concurrency": 1}, "twos", seeds=[0]), store)
    finish(study, trainer, take(study))
    run_here(study, trainer)
    assert [search.state for search in study.searches] == ["failed", "done"]
    assert sum(len(work.job.architecture) == 1 for work in trainer.ran) == 1


# thinking


def test_methods_think_one_at_a_time_in_a_thread_of_their_own(methods, trainer):
    threads, at_once = set(), []

    class Watched(OrderToy):
        def ask(self):
            threads.add(threading.current_thread().name)
            at_once.append(1)
            time.sleep(0.002)
            assert sum(at_once) == 1
            at_once.pop()
            return super().ask()

    methods(toy=MethodInfo("toy", lambda problem, options: Watched(problem)))
    study = run(make_study("toy", seeds=[0, 1, 2]), trainer)
    assert all(search.state == "done" for search in study.searches)
    assert len(threads) == 1
    assert threading.current_thread().name not in threads


def test_jobs_are_handed_out_while_a_method_thinks(methods, store, trainer):
    may_go_on = threading.Event()

    class Slow(OrderToy):
        def ask(self):
            assert may_go_on.wait(10)
            return super().ask()

    methods(slow=MethodInfo("toy", lambda problem, options: Slow(problem)))
    study = start(make_study("ones", "slow", seeds=[0]), store)
    wait_until(lambda: study.has_work, 10, "the quick method has no job", pause=0.001)
    search, _ = study.next()
    assert search.cell.method.label == "ones"
    assert not study.over
    may_go_on.set()
    study.close()


def test_the_time_that_a_method_thinks_is_kept(methods, store, trainer):
    class Slow(OrderToy):
        def best(self):
            time.sleep(0.05)
            return super().best()

    methods(slow=MethodInfo("toy", lambda problem, options: Slow(problem)))
    run(make_study("slow", seeds=[0]), trainer)
    assert 0.05 <= store.outcome("slow").proposal_seconds < 5


def test_a_store_that_cannot_be_written_ends_the_study(methods, store, trainer, monkeypatch):
    def full(request):
        raise RunError("no space left on device")

    monkeypatch.setattr(store, "commit_request", full)
    with pytest.raises(RunError, match="no space left"):
        run(make_study("ones", "order"), trainer)


def test_ends_are_told_once_each(methods, trainer):
    ends = []
    run(make_study("ones", "twos", "order"), trainer, lambda search: ends.append(search.cell.title))
    assert sorted(ends) == sorted(f"{name}, t, seed {seed}" for name in ("ones", "twos", "order") for seed in (0, 1))
    run(make_study("ones", "twos", "order"), trainer, lambda search: ends.append(search.cell.title))
    assert len(ends) == 6


# interruptions


STUDY = {"methods": ("order", "prune", "ones"), "seeds": [0, 1]}


@pytest.fixture
def undisturbed(methods):
    """What the store has of a study that nobody killed."""
    store = MemoryStore()
    run(make_study(*STUDY["methods"], seeds=STUDY["seeds"]), Trainer(store))
    return store


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=4))
def test_a_study_that_was_killed_ends_like_an_undisturbed_one(undisturbed, kills):
    store, trained = MemoryStore(), []
    for kill in [*kills, None]:
        trainer = Trainer(store, kill=kill)
        with suppress(Killed):
            run(make_study(*STUDY["methods"], seeds=STUDY["seeds"]), trainer)
        trained += trainer.ids if kill is None or kill[1] else trainer.ids[: kill[0] - 1]
    assert store.state() == undisturbed.state()
    # no finished job ran again
    assert len(trained) == len(set(trained)) == len(store.jobs)


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
def test_killed_after_every_job_a_study_still_ends_like_an_undisturbed_one(undisturbed, stored):
    store, number = MemoryStore(), 0
    while True:
        number += 1
        # where nothing was stored, the next try comes one job further
        trainer = Trainer(store, kill=(1 if stored else 2, stored))
        try:
            run(make_study(*STUDY["methods"], seeds=STUDY["seeds"]), trainer)
        except Killed:
            continue
        break
    assert number >= len(undisturbed.jobs) - 1
    assert store.state() == undisturbed.state()


def test_proposals_that_hang_on_the_order_of_results_come_back(methods):
    built = []

    def build(problem, options):
        built.append(OrderToy(problem))
        return built[-1]

    methods(toy=MethodInfo("toy", build))
    run(make_study("toy", seeds=[0]), Trainer(MemoryStore()))
    (whole,) = built
    for number in range(1, 9):
        built.clear()
        store = MemoryStore()
        with pytest.raises(Killed):
            run(make_study("toy", seeds=[0]), Trainer(store, kill=(number, True)))
        run(make_study("toy", seeds=[0]), Trainer(store))
        assert built[-1].proposed == whole.proposed
        assert built[-1].told == whole.told


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_order_of_results_a_replay_restores_it(methods, data):
    store = MemoryStore()
    trainer = Trainer(store)
    spec = make_study("order", "ones", {"name": "twos", "concurrency": 1}, seeds=[0])
    study = start(spec, store)
    running = take(study)
    for _ in range(data.draw(st.integers(0, 14), "jobs")):
        if not running:
            break
        piece = running.pop(data.draw(st.integers(0, len(running) - 1), "next"))
        finish(study, trainer, [piece])
        running += take(study)
    study.close()
    again = start(spec, store)
    quiet(again)
    again.close()
    for before, after in zip(study.searches, again.searches, strict=True):
        assert (before.state, before.told, before.best_value) == (after.state, after.told, after.best_value)
        assert before.outstanding == after.outstanding


# additions


def test_what_is_added_to_a_finished_study_is_all_that_runs(methods, store, trainer):
    run(make_study("ones", "order", seeds=[0]), trainer)
    before, requests = len(trainer.ran), dict(store.requests)
    run(make_study("ones", "order", seeds=[0, 1]), trainer)
    fresh = trainer.ran[before:]
    assert len(set(trainer.ids)) == len(trainer.ids)
    assert sum(work.kind == "candidate" for work in fresh) == 4 + 8
    # all that was there stays as it was; both old choices are retrained under the new seed, too
    assert requests.items() <= store.requests.items()
    for method in ("ones", "order"):
        kinds = [one.retrain_seed for one in store.requests.values() if one.method == method and one.seed == 0]
        assert [seed for seed in kinds if seed is not None] == [0, 1]
    before = len(trainer.ran)
    run(make_study("twos", "ones", "order", seeds=[0, 1]), trainer)
    assert {work.job.id for work in trainer.ran[before:]} <= {
        one.job_id for one in store.requests.values() if one.method == "twos"
    }


def test_a_study_in_two_steps_gives_what_one_in_one_step_gives(methods, store, trainer):
    run(make_study("ones", seeds=[1]), trainer)
    run(make_study("ones", "order", seeds=[1, 0]), trainer)
    whole = MemoryStore()
    run(make_study("ones", "order", seeds=[1, 0]), Trainer(whole))
    assert store.state() == whole.state()


# progress


def test_progress_counts_searches_jobs_epochs_and_the_best_of_every_method(methods, store, trainer):
    trainer.failing = ["round 1/2"]
    study = run(make_study("ones", "prune", tasks=["t", "u"]), trainer)
    ones, prune = study.progress()
    assert (ones.method, ones.searches, ones.ended, ones.failed, ones.running) == ("ones", 4, 4, 0, 0)
    # four candidates of one epoch and two retrainings of 20 in each
    assert (ones.jobs, ones.epochs, ones.seconds_left) == (24, 4 * 44.0, 0.0)
    assert (prune.ended, prune.failed) == (4, 4)
    assert prune.best == {("m", "t"): None, ("m", "u"): None}
    for task in ("t", "u"):
        told = [one.job_id for one in store.requests.values() if (one.method, one.task) == ("ones", task)]
        assert ones.best["m", task] == max(digest(job_id) for job_id in told)


def test_progress_before_anything_ran(methods, store):
    study = start(make_study("order", "ones", seeds=[0]), store)
    assert [len(take(study)), study.progress()[0].running] == [5, 3]
    order, ones = study.progress()
    assert (order.jobs, order.best, order.epochs) == (0, {("m", "t"): None}, 0.0)
    # nothing has been finished yet, so that nobody knows how long a job takes
    assert (order.seconds_left, ones.seconds_left) == (None, None)
    study.close()


def test_time_left_is_that_of_the_jobs_that_are_left(methods, store, trainer, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("prunepeft_ray.execution.study.dispatcher.time.monotonic", lambda: now[0])
    study = start(make_study("order", "ones", seeds=[0]), store)
    while study._pending:
        time.sleep(0.001)
    found = [study.next() for _ in range(5)]
    mine = [piece for piece in found if piece[0].cell.method.label == "order"]
    now[0] = 130.0
    for search, work in mine:
        study.finish(work.job.id, trainer(search, work))
    while study._pending:
        time.sleep(0.001)
    order, ones = study.progress()
    # three of nine jobs took 30 seconds
    assert order.seconds_left == pytest.approx(60.0)
    # how many are left is not known of the other
    assert ones.seconds_left is None
    study.close()


def test_what_a_finished_study_told_is_in_its_progress_when_it_is_opened_again(methods, store, trainer):
    before = run(make_study("ones", "order"), trainer).progress()
    again = run(make_study("ones", "order"), trainer)
    assert again.progress() == before
