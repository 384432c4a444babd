"""What the driver makes of what happens to its workers; real losses are in test_failures.py."""

import signal
import threading
from functools import partial

import pytest
import ray
from ray.exceptions import (
    ActorDiedError,
    ActorPlacementGroupRemoved,
    ActorUnavailableError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RaySystemError,
    RpcError,
    TaskPlacementGroupRemoved,
    WorkerCrashedError,
)
from ray.train import RunConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from prunepeft_ray.cluster.private_ray.train import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from prunepeft_ray.cluster.sharing.claim import WholeCluster
from prunepeft_ray.errors import InputError, RunError, Terminated
from prunepeft_ray.events import Event
from prunepeft_ray.execution.interruptions import BrokenGroupError
from prunepeft_ray.execution.mailbox import Mailbox, Reader, Sender
from prunepeft_ray.execution.ray_errors import RAY_ERRORS, describe_failure, describe_loss, is_memory_loss, own_error
from prunepeft_ray.execution.search import train_group
from prunepeft_ray.execution.supervise import follow, nowhere
from prunepeft_ray.results import RunFolder
from prunepeft_ray.signals import StopRequest, catching_signals

LOW = "Task was killed due to the node running low on memory."
GONE = "gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:55525. This is typically due to ..."
LOSSES = {
    "left behind": (RuntimeError(GONE), "worker 1 lost the connection to another worker"),
    "died": (ActorDiedError(), "worker 1 died"),
    "died, seen by a health check": (WorkerHealthCheckFailedError("failed", ActorDiedError()), "worker 1 died"),
    "silent": (WorkerHealthCheckTimeoutError("late"), "worker 1 no longer responds"),
    "memory": (OutOfMemoryError(LOW), "worker 1 was killed because its node is low on memory"),
    "memory, seen by a health check": (
        WorkerHealthCheckFailedError("failed", OutOfMemoryError(LOW)),
        "worker 1 was killed because its node is low on memory",
    ),
    "left": (BrokenGroupError(), "worker 1 left a job that the group trains together"),
    "a defect": (ValueError("first\n  second \n"), "worker 1 failed: ValueError: second"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_described_in_a_few_words(name):
    error, text = LOSSES[name]
    assert describe_loss(1, error) == text
    assert is_memory_loss(error) == ("memory" in name)


class Actor:
    """An object of this process, called as a Ray actor is."""

    def __init__(self, item):
        self.item = item

    def __getattr__(self, name):
        method = getattr(self.item, name)

        class Remote:
            @staticmethod
            def remote(*args):
                return method(*args)

        return Remote


@pytest.fixture
def mailbox(monkeypatch):
    """A mailbox in this process."""
    monkeypatch.setattr(ray, "get", lambda item, timeout=None: item)
    monkeypatch.setattr(ray, "wait", lambda items, timeout: (items, []))
    return Actor(Mailbox())


def test_what_merely_follows_from_a_loss_is_not_told():
    losses = {0: RuntimeError(GONE), 1: ActorDiedError()}
    assert describe_failure(WorkerGroupError("bad", losses)) == "worker 1 died"


def test_jobs_that_ran_when_memory_ran_out_are_remembered(mailbox):
    line = Sender(mailbox)
    for job in ("a", "b"):
        line.emit(Event("start", "", job_id=job))
    line.emit(Event("end", "", job_id="a"))
    mailbox.lose.remote(False)
    assert mailbox.item.short_of_memory() == set()
    line.emit(Event("start", "", job_id="b"))
    mailbox.lose.remote(True)
    assert mailbox.item.short_of_memory() == {"b"}


def test_a_worker_learns_from_the_answer_to_its_news_that_it_should_stop(mailbox):
    line = Sender(mailbox)
    assert not line.stop_wanted()
    line.emit(Event("message", ""))
    assert not line.stop_wanted()
    mailbox.stop.remote()
    assert not line.stop_wanted()
    line.emit(Event("message", ""))
    assert line.stop_wanted()
    assert line.stop_wanted()


def test_a_worker_whose_every_step_is_news_hears_of_a_stop_all_the_same(mailbox, monkeypatch):
    ready = []
    monkeypatch.setattr(ray, "wait", lambda items, timeout: (items, []) if items[0] in ready else ([], items))
    answers = iter(("first", "second"))
    monkeypatch.setattr(Mailbox, "post", lambda self, event: next(answers))
    line = Sender(mailbox)
    line.emit(Event("message", ""))
    assert not line.stop_wanted()
    # its answer comes while the next step runs, and that begins with news
    ready.append("first")
    line.emit(Event("message", ""))
    assert line.stop_wanted()


def test_a_board_that_was_started_anew_hears_again_that_workers_should_stop(mailbox):
    verdicts = []

    class Group:
        def is_alive(self):
            return len(verdicts) < 4

        def join(self, timeout):
            verdicts.append(mailbox.verdict.remote())
            mailbox.item._verdict = None

    assert follow(Group(), mailbox, lambda event: None, StopRequest(), must_leave=lambda: True)
    assert verdicts == [None, "stop", "stop", "stop"]


def test_others_go_on_after_a_stop_but_not_after_an_error(mailbox):
    mailbox.join.remote("a worker")
    mailbox.stop.remote()
    mailbox.reset.remote()
    assert mailbox.workers.remote() == []
    assert mailbox.join.remote("the next") is None
    error = RunError("no memory")
    mailbox.fail.remote(error)
    mailbox.reset.remote()
    assert mailbox.join.remote("one more") is error


def test_an_error_of_ours_is_kept_when_a_stop_comes_later(mailbox):
    error = RunError("no memory")
    mailbox.fail.remote(error)
    mailbox.stop.remote()
    assert mailbox.join.remote("a worker") is error
    assert mailbox.workers.remote() == ["a worker"]


def test_the_reader_knows_which_jobs_run(mailbox):
    reader, line = Reader(mailbox, lambda event: None), Sender(mailbox)
    for job in ("a", "b", "c"):
        line.emit(Event("start", "", job_id=job))
    line.emit(Event("end", "", job_id="b"))
    reader.read(0)
    assert reader.running == {"a", "c"}
    line.emit(Event("lost", "worker 0 died"))
    reader.read(0)
    assert reader.running == set()


class OneRun:
    """Stands for a run of the group, which may fail to start or make way for another size; knows the room then."""

    def __init__(self, outcomes, room):
        self.outcomes, self.room, self.workers = list(outcomes), [99, *room], []

    def __call__(self, place, emit, workers, use_gpu, request, look, must_leave):
        self.workers.append(workers)
        outcome = self.outcomes.pop(0)
        outcome = outcome() if callable(outcome) else outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def room_for_workers(self, use_gpu):
        return self.room[len(self.workers)]


@pytest.fixture
def run_group(monkeypatch, tmp_path, spec, cluster):
    """Run a group whose runs come out as given, in a cluster with that room; gives workers of each run and the news."""

    def run(outcomes, room, request=None, share=None):
        runs, told = OneRun(outcomes, room), []
        monkeypatch.setattr(train_group, "_run_once", runs)
        monkeypatch.setattr(train_group, "share_bench", lambda spec, data: None)
        monkeypatch.setattr(train_group, "room_for_workers", runs.room_for_workers)
        monkeypatch.setattr(train_group, "PAUSE_SECONDS", 0.01)
        folder = RunFolder.create(tmp_path / "run", spec)
        try:
            train_group.run_in_group(
                folder, None, told.append, share or WholeCluster(4), False, request or StopRequest(), lambda: None
            )
        finally:
            run.workers, run.told = runs.workers, [event.text for event in told]

    return run


def full():
    return ControllerError(WorkerGroupStartupTimeoutError(2))


def broken():
    return ControllerError(WorkerGroupStartupFailedError("No module named 'cat'"))


def test_a_smaller_cluster_gets_a_smaller_group(run_group):
    run_group([full(), full(), None], room=[3, 1])
    assert run_group.workers == [4, 3, 1]
    assert run_group.told == [
        "the cluster has only 3 CPUs left: continuing with 3",
        "the cluster has only 1 CPU left: continuing with 1",
    ]


def test_a_busy_cluster_is_waited_for(run_group):
    run_group([full()] * 6 + [None], room=[4] * 6)
    assert run_group.workers == [4] * 7
    assert set(run_group.told) == {"still waiting for 4 free CPUs on the cluster"}


def test_a_cluster_without_any_room_ends_the_search_in_one_line(run_group):
    with pytest.raises(
        RunError, match=r"no worker can start: .*timed out after.* are safe; resume with 'prunepeft resume .*run'"
    ):
        run_group([full()], room=[0])


def test_workers_that_never_start_are_not_tried_for_ever(run_group):
    with pytest.raises(RunError, match="no worker can start: No module named 'cat'"):
        run_group([broken()] * 9, room=[4] * 9)
    assert len(run_group.workers) == 4


def test_a_signal_before_the_workers_start_ends_at_once(run_group):
    request = StopRequest()
    request.signal = signal.SIGTERM
    with pytest.raises(Terminated):
        run_group([], room=[], request=request)
    assert run_group.workers == []


class Changing:
    """A share that is another one whenever a group has run."""

    def __init__(self, *units):
        self._units = list(units)

    @property
    def units(self):
        return self._units.pop(0)


def test_a_group_that_makes_way_starts_again_in_its_new_size_until_the_search_is_finished(run_group):
    run_group([True, True, True, False], room=[99, 100, 100], share=Changing(2, 1, 3, 4))
    assert run_group.workers == [2, 1, 3, 4]
    assert run_group.told == [
        "continuing with 1 worker: others need their share",
        "continuing with 3 workers: a node has joined",
        "continuing with 4 workers: others need less",
    ]


def test_a_search_that_was_finished_when_it_was_to_make_way_does_not_start_again(run_group, monkeypatch):
    monkeypatch.setattr(RunFolder, "finished", True)
    run_group([True], room=[], share=Changing(2))
    assert run_group.workers == [2]


def test_a_signal_while_a_group_makes_way_ends_the_search(run_group):
    request = StopRequest()

    class Asking(Changing):
        @property
        def units(self):
            if len(self._units) == 1:
                request.signal = signal.SIGTERM
            return super().units

    with pytest.raises(Terminated):
        run_group([True], room=[99], request=request, share=Asking(2, 1))
    assert run_group.workers == [2]


OF_RAY = (
    ControllerError(ActorUnavailableError("The actor is unavailable: Socket closed", None)),
    ControllerError(RuntimeError("anything")),
    WorkerGroupError("bad", {0: ActorDiedError()}),
    WorkerGroupError("bad", {1: ObjectLostError("ab" * 14, None, "")}),
    ActorDiedError(),
    ActorUnavailableError("later", None),
    WorkerCrashedError(),
    NodeDiedError("gone"),
    OutOfMemoryError(LOW),
    ActorPlacementGroupRemoved(),
    TaskPlacementGroupRemoved(),
    RaySystemError("system"),
    GetTimeoutError("late"),
    RpcError("failed to connect", 14),
    ConnectionError("GCS cannot be reached"),
)


@pytest.mark.parametrize("error", OF_RAY, ids=lambda error: type(error).__name__)
def test_every_error_of_rays_own_is_counted_told_and_followed_by_a_new_start(run_group, error):
    assert isinstance(error, RAY_ERRORS)
    run_group([error, None], room=[4])
    assert run_group.workers == [4, 4]
    (told,) = run_group.told
    assert told.endswith("; restart 1 of at most 3")
    assert "\n" not in told


@pytest.mark.parametrize("error", OF_RAY[:3], ids=("unavailable", "anything", "lost"))
def test_failures_in_a_row_are_given_up_in_one_line(run_group, error):
    with pytest.raises(
        RunError, match=r"^[^\n]+; finished jobs and checkpoints are safe; resume with 'prunepeft resume .*run'"
    ):
        run_group([error] * 9, room=[4] * 9)
    assert run_group.workers == [4] * 4


def test_failures_with_a_finished_job_between_them_are_survived_for_ever(run_group, tmp_path):
    jobs = tmp_path / "run" / "results" / "jobs"

    def finish_one(number):
        jobs.mkdir(parents=True, exist_ok=True)
        (jobs / f"{number}.parquet").touch()
        return WorkerGroupError("bad", {0: ActorDiedError()})

    run_group([*(partial(finish_one, number) for number in range(9)), None], room=[4] * 9)
    assert run_group.told == ["worker 0 died; restart 1 of at most 3"] * 9


def test_an_error_of_ours_inside_one_of_rays_is_what_is_raised():
    ours = InputError("wrong")
    for error in (ControllerError(ours), WorkerGroupError("bad", {0: ActorDiedError(), 1: ours})):
        assert own_error(error) is ours
    assert [own_error(error) for error in OF_RAY] == [None] * len(OF_RAY)


def test_the_first_signal_is_noted_and_the_second_ends():
    with pytest.raises(KeyboardInterrupt), catching_signals() as request:
        signal.raise_signal(signal.SIGTERM)
        assert request.signal == signal.SIGTERM
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(Terminated) as caught, catching_signals() as request:
        signal.raise_signal(signal.SIGTERM)
        request.interrupt()
    assert caught.value.code == 143


@pytest.mark.parametrize("error", [None, RunError("the connection to the cluster is lost")])
def test_a_signal_that_was_noted_ends_whatever_else_came_of_it(error):
    with pytest.raises(Terminated), catching_signals(), catching_signals():
        signal.raise_signal(signal.SIGTERM)
        if error is not None:
            raise error


def test_an_error_without_a_signal_stays_what_it_is():
    with pytest.raises(RunError, match="full"), catching_signals():
        raise RunError("the disk is full")


def test_handlers_are_given_back_and_other_threads_get_none():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with catching_signals():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    found = []

    def elsewhere():
        with catching_signals() as request:
            found.append((request.signal, signal.getsignal(signal.SIGINT) is before[0]))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [(None, True)]


def test_a_busy_board_is_asked_again_for_the_same_news(monkeypatch):
    answers = iter([GetTimeoutError(), [Event("message", "late")]])

    def get(asked, timeout):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    mailbox, told = Actor(Mailbox()), []
    monkeypatch.setattr(ray, "get", get)
    reader = Reader(mailbox, told.append)
    assert not reader.read(0)
    assert reader.read(0)
    assert [event.text for event in told] == ["late"]


def test_ray_starts_no_actor_for_datasets_that_a_search_has_not():
    def callbacks(trainer):
        made = trainer(lambda: None, run_config=RunConfig(storage_path="ray", storage_filesystem=nowhere()))
        return {type(one).__name__ for one in made._create_default_callbacks()}

    assert callbacks(TorchTrainer) - callbacks(train_group.LeanTrainer) == {"DatasetsCallback"}
