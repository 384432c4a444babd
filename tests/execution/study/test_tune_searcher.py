"""What Tune is told of a study's jobs, and what becomes of trials that end in one way or another; no cluster."""

from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, ObjectLostError, OutOfMemoryError
from ray.tune.search import Searcher
from study_fakes import make_setting, make_study

from prunepeft_ray.cluster.private_ray.tune import ActorManager, RayActorManager
from prunepeft_ray.errors import RunError
from prunepeft_ray.execution.study import tune_searcher as job_searcher
from prunepeft_ray.execution.study.tune_schedulers import NewestFirst, OldestFirst
from prunepeft_ray.execution.study.tune_searcher import JobSearcher
from prunepeft_ray.results import ResultsStore


class OneJob:
    """A study with a single job."""

    def __init__(self, setting):
        work = setting.problem.candidate_work(setting.problem.space.supernet, "candidate 1/1")
        self.setting, self.work, self.over, self.finished = setting, work, False, []
        self._found = [(SimpleNamespace(cell=setting.cell, setting=setting), work)]

    def next(self):
        return self._found.pop() if self._found else None

    def finish(self, job_id, result):
        self.finished.append((job_id, result))


class Trial:
    """What a scheduler sees of a trial."""

    def __init__(self, trial_id, status):
        self.trial_id, self.status = trial_id, status


class Controller:
    """What a scheduler may do with Tune."""

    def __init__(self, *trials):
        self.trials, self.stopped, self.freed = trials, [], []

    def get_trials(self):
        return self.trials

    def stop_trial(self, trial):
        self.stopped.append(trial.trial_id)

    def _cleanup_cached_actors(self, force_all):
        self.freed.append(force_all)


@pytest.fixture
def run():
    study = make_study("random-search")
    return OneJob(make_setting(study, next(study.cells())))


@pytest.fixture
def store(tmp_path):
    return ResultsStore(tmp_path / "results")


def searcher_of(run, store, stopping=(), emit=lambda event: None, room=lambda: 9):
    return JobSearcher(run, store, lambda: bool(stopping), 4, store.folder.parent / "checkpoints", room, emit)


def fail(searcher, count):
    """Let a job's trials fail, one after another."""
    for trial_id in map(str, range(count)):
        searcher.suggest(trial_id)
        searcher.on_trial_complete(trial_id, error=True)


def test_a_job_becomes_a_trial_with_the_search_in_its_label(run, store):
    searcher = searcher_of(run, store)
    assignment = searcher.suggest("a")["assignment"]
    assert assignment.work.job is run.work.job
    assert assignment.work.label == "random-search, t, seed 0: candidate 1/1"
    # waits for the next one
    assert searcher.suggest("b") is None
    run.over = True
    assert searcher.suggest("b") == Searcher.FINISHED


def test_no_more_jobs_begin_than_may_run_at_once(run, store):
    room = [0]
    searcher = JobSearcher(
        run, store, lambda: False, 4, store.folder.parent / "checkpoints", lambda: room[0], lambda event: None
    )
    assert searcher.suggest("a") is None
    room[0] = 1
    assert isinstance(searcher.suggest("a"), dict)
    run._found.append((SimpleNamespace(cell=None, setting=None), None))
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", {"outcome": "stopped"})
    run._found.clear()
    assert searcher.suggest("b") is None


def test_a_job_whose_trial_fails_is_tried_again_and_people_are_told(run, store):
    told = []
    searcher = searcher_of(run, store, emit=told.append)
    first = searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    assert (run.finished, store.find(run.work.job.id)) == ([], None)
    assert searcher.suggest("b") == first
    assert [(event.type, event.job_id, event.text) for event in told] == [
        (
            "message",
            run.work.job.id,
            "random-search, t, seed 0: candidate 1/1: its worker was lost or failed; retry 1 of at most 3",
        )
    ]


def test_a_job_whose_trials_fail_too_often_leaves_a_failed_job_with_the_reason(run, store):
    searcher = searcher_of(run, store)
    searcher.said[run.work.job.id] = "KeyError: 'x'"
    fail(searcher, 3)
    assert run.finished == []
    fail(searcher, 1)
    ((job_id, result),) = run.finished
    assert job_id == run.work.job.id
    assert result.status == "failed"
    assert result.reason == "its worker was lost or failed 4 times; KeyError: 'x'"
    assert store.find(job_id) == result


def test_a_trial_that_a_dead_actor_could_not_begin_is_no_attempt(run, store):
    told = []
    searcher = searcher_of(run, store, emit=told.append)
    for trial_id, resetting in (("a", True), ("b", False)):
        searcher.suggest(trial_id)
        trial = Trial(trial_id, "PENDING")
        OldestFirst(searcher).on_trial_error(SimpleNamespace(_resetting_trials={trial} if resetting else ()), trial)
        searcher.on_trial_complete(trial_id, error=True)
    assert [event.text.partition("; ")[2] for event in told] == ["retry 1 of at most 3"]
    fail(searcher, 2)
    assert run.finished == []
    fail(searcher, 1)
    assert len(run.finished) == 1


def test_a_trial_whose_job_was_stored_before_its_worker_died_counts(run, store):
    searcher = searcher_of(run, store)
    fail(searcher, 4)
    stored = store.find(run.work.job.id)
    run.finished.clear()
    again = searcher_of(OneJob(run.setting), store)
    fail(again, 1)
    assert again.run.finished == [(run.work.job.id, stored)]


def test_a_stopped_trial_leaves_its_job_for_the_resume(run, store):
    stopping = []
    searcher = searcher_of(run, store, stopping)
    searcher.suggest("a")
    stopping.append(True)
    searcher.on_trial_complete("a", {"outcome": "stopped"})
    assert run.finished == []
    assert store.find(run.work.job.id) is None
    assert searcher.suggest("b") == Searcher.FINISHED


def test_an_error_of_the_world_ends_the_study_and_is_no_failed_job(run, store):
    searcher = searcher_of(run, store)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"outcome": "the disk is full"})
    assert (searcher.error, run.finished) == ("the disk is full", [])
    assert store.find(run.work.job.id) is None
    assert searcher.suggest("b") == Searcher.FINISHED


def test_a_store_that_fails_ends_the_study_with_its_own_words(run, store, monkeypatch):
    def fails(job_id):
        raise RunError("the disk is gone")

    monkeypatch.setattr(store, "find", fails)
    searcher = searcher_of(run, store)
    fail(searcher, 1)
    assert (searcher.error, run.finished) == ("the disk is gone", [])


def test_an_idle_actor_is_let_go_where_no_further_job_may_run(run, store):
    room = [1]
    searcher = JobSearcher(
        run, store, lambda: False, 4, store.folder.parent / "checkpoints", lambda: room[0], lambda event: None
    )
    working, waiting = Trial("a", "RUNNING"), Trial("b", "PENDING")
    idle, busy = Controller(working), Controller(working, waiting)
    assert NewestFirst(searcher).choose_trial_to_run(idle) is None
    assert idle.freed == []
    searcher.suggest("a")
    assert NewestFirst(searcher).choose_trial_to_run(idle) is None
    assert idle.freed == [True]
    # it may be the actor that this one is about to get
    assert NewestFirst(searcher).choose_trial_to_run(busy) is waiting
    assert busy.freed == []


@pytest.mark.parametrize("scheduler", [OldestFirst, NewestFirst])
def test_trials_that_have_not_begun_are_given_up_before_an_end(run, store, scheduler):
    searcher = searcher_of(run, store, stopping=[True])
    tune = Controller(Trial("a", "RUNNING"), Trial("b", "PENDING"), Trial("c", "TERMINATED"))
    assert scheduler(searcher).choose_trial_to_run(tune) is None
    assert tune.stopped == ["b"]


def test_a_job_that_comes_further_between_its_failures_is_never_given_up(run, store, monkeypatch):
    kept = iter(range(1, 100))
    monkeypatch.setattr(job_searcher, "kept_examples", lambda file: next(kept))
    searcher = searcher_of(run, store)
    fail(searcher, 20)
    assert run.finished == []


def test_the_jobs_of_a_tune_run_that_failed_are_trials_of_the_next_one(run, store):
    searcher = searcher_of(run, store)
    first = searcher.suggest("a")
    assert searcher.suggest("b") is None
    searcher.requeue()
    assert searcher.suggest("c") == first


def test_an_error_that_tune_does_not_know_is_taken_for_an_actor_that_died(monkeypatch):
    told = []
    monkeypatch.setattr(RayActorManager, "_actor_task_failed", lambda manager, task, error: told.append(type(error)))
    manager = ActorManager.__new__(ActorManager)
    for error in (OutOfMemoryError("low"), NodeDiedError("gone"), ObjectLostError("ab" * 14, None, "")):
        manager._actor_task_failed(None, error)
    manager._actor_task_failed(None, ActorUnavailableError("later", None))
    assert told == [*[ActorDiedError] * 3, ActorUnavailableError]
