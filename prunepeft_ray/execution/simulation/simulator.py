"""A discrete-event simulation of a study: the real dispatcher and real methods, and devices that only take time."""

from __future__ import annotations

import heapq
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.execution.simulation.store import SimulatedStore
from prunepeft_ray.execution.study.dispatcher import StudyRun, compute_alone
from prunepeft_ray.execution.study.search import StudySearch
from prunepeft_ray.execution.study.setting import Setting
from prunepeft_ray.jobs import TrainJob, TrainResult, Work

ResultOf = Callable[[TrainJob], TrainResult]
"""Returns the result of a job; the job takes ``cost.wall_seconds`` of it. Must return the same for the same job."""

Clock = Callable[[], float]


def no_time() -> float:
    """A clock that stands still, with which methods decide in no time and a simulation is deterministic."""
    return 0.0


@dataclass
class Simulation:
    """What a simulated study took.

    Args:
        devices: Number of devices.
        workers: Number of devices that a job occupies.
        searches: The searches, all ended.
        makespan: Virtual seconds from the start to the end.
        critical: Virtual seconds of the longest chain of jobs in which each was asked for after the one before.
        device_seconds: Seconds times devices of all jobs.
        thinking: Seconds that methods took, one call at a time, by the clock of the simulation.
        driver_cpu: Real CPU seconds of asking, telling, committing and dispatching.
        jobs: Ids of all jobs, in the order in which they started.
        jobs_by_method: Number of jobs by the label of the method that asked first.
        device_seconds_by_method: The same for device-seconds.
    """

    devices: int
    workers: int
    searches: Sequence[StudySearch]
    makespan: float = 0.0
    critical: float = 0.0
    device_seconds: float = 0.0
    thinking: float = 0.0
    driver_cpu: float = 0.0
    jobs: list[str] = field(default_factory=list)
    jobs_by_method: Counter[str] = field(default_factory=Counter)
    device_seconds_by_method: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def utilisation(self) -> float:
        """Share of the devices' time that jobs took."""
        return self.device_seconds / (self.devices * self.makespan) if self.makespan else 0.0

    @property
    def bounds(self) -> dict[str, float]:
        """Seconds that the study takes at least, by what limits it."""
        places = self.devices // self.workers
        return {
            "devices": self.device_seconds / (self.workers * places),
            "critical path": self.critical,
            "thinking": self.thinking,
        }

    @property
    def limit(self) -> str:
        """What limits the study most."""
        return max(self.bounds, key=self.bounds.__getitem__)


def simulate(
    settings: Sequence[Setting],
    result_of: ResultOf,
    devices: int,
    clock: Clock = no_time,
    store: SimulatedStore | None = None,
) -> Simulation:
    """Run a study in virtual time.

    Methods think one at a time, in a virtual thread: what a call returns becomes available when as much virtual time
    has passed as the call took by the clock. Meanwhile, jobs end and waiting ones start.

    Args:
        settings: The searches.
        result_of: Results and durations of jobs.
        devices: Number of devices; a job occupies as many as the study's ``execution.workers``.
        clock: Measures how long methods think, such as ``time.perf_counter``; default: not at all.
        store: What the searches read and write; default: an empty one.

    Raises:
        InputError: If a job needs more devices than there are.
        PrunePEFTError: If the study cannot continue.
    """
    compute_alone()
    return _Simulator(settings, result_of, devices, clock, store or SimulatedStore()).run()


def check_devices(devices: int, workers: int) -> None:
    """Check that a job of so many workers can run.

    Raises:
        InputError: If there are too few devices.
    """
    if devices < workers:
        raise InputError(f"{devices} devices: a job of this study needs {workers} (execution.workers)")


class _VirtualThread(Executor):
    """Keeps calls, in order, for the simulator to make when it is time."""

    def __init__(self) -> None:
        self.calls: deque[tuple[Any, ...]] = deque()

    def submit(self, function: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
        self.calls.append((function, *arguments))
        return Future()


class _Simulator:
    def __init__(
        self, settings: Sequence[Setting], result_of: ResultOf, devices: int, clock: Clock, store: SimulatedStore
    ) -> None:
        workers = settings[0].study.execution.workers
        check_devices(devices, workers)
        self._result_of, self._clock, self._store = result_of, clock, store
        self._thread = _VirtualThread()
        self._searches = [StudySearch(setting, store) for setting in settings]
        self._run = StudyRun(self._searches, lambda search: None, self._thread)
        self._simulation = Simulation(devices, workers, self._searches)
        self._free = devices // workers
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._thinks = False
        self._asked_after: dict[str, float] = {}

    def run(self) -> Simulation:
        while self._run.error is None:
            self._start_jobs()
            self._think()
            if not self._events:
                break
            now, _, happen = heapq.heappop(self._events)
            self._simulation.makespan = now
            happen()
        if self._run.error is not None:
            raise self._run.error
        if waiting := [search.cell.title for search in self._searches if not search.ended]:
            raise RunError(f"{waiting[0]}: the method waits for results, but nothing is running")
        return self._simulation

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        # the number keeps events at the same time in order
        self._scheduled += 1
        heapq.heappush(self._events, (self._simulation.makespan + seconds, self._scheduled, happen))

    def _think(self) -> None:
        """Make the next call of a method, unless one is being made; its result becomes available later."""
        if self._thinks or not self._thread.calls:
            return
        advance, number, action = self._thread.calls.popleft()
        outcome: Future[list[Work]] = Future()
        started, cpu = self._clock(), time.thread_time()
        try:
            outcome.set_result(action())
        except Exception as error:  # noqa: BLE001  the dispatcher reports it
            outcome.set_exception(error)
        seconds = self._clock() - started
        self._simulation.driver_cpu += time.thread_time() - cpu
        self._simulation.thinking += seconds
        self._thinks = True
        self._after(seconds, lambda: self._end_thought(advance, number, outcome))

    def _end_thought(
        self, advance: Callable[[int, Callable[[], list[Work]]], None], number: int, outcome: Future[list[Work]]
    ) -> None:
        self._thinks = False
        if outcome.exception() is None:
            waited = self._store.waited.get(self._searches[number].setting.context.run_id, 0.0)
            for work in outcome.result():
                self._asked_after.setdefault(work.job.id, waited)
        advance(number, outcome.result)

    def _start_jobs(self) -> None:
        while self._free and (found := self._timed(self._run.next)) is not None:
            search, work = found
            self._free -= 1
            self._start(search, work.job)

    def _start(self, search: StudySearch, job: TrainJob) -> None:
        simulation, label = self._simulation, search.cell.method.label
        result = self._result_of(job)
        seconds = result.cost.wall_seconds
        chain = self._asked_after.pop(job.id) + seconds
        simulation.jobs.append(job.id)
        simulation.jobs_by_method[label] += 1
        simulation.device_seconds += seconds * simulation.workers
        simulation.device_seconds_by_method[label] += seconds * simulation.workers
        simulation.critical = max(simulation.critical, chain)
        self._after(seconds, lambda: self._finish(job.id, result, chain))

    def _finish(self, job_id: str, result: TrainResult, chain: float) -> None:
        self._free += 1
        self._store.finish(job_id, result, chain)
        self._timed(lambda: self._run.finish(job_id, result))

    def _timed(self, action: Callable[[], Any]) -> Any:
        cpu = time.thread_time()
        try:
            return action()
        finally:
            self._simulation.driver_cpu += time.thread_time() - cpu
