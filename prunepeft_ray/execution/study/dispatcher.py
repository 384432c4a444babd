"""Dispatching the jobs of all searches of a study, and their results. Does not import Ray."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

from prunepeft_ray.execution.study.progress import MethodProgress
from prunepeft_ray.execution.study.search import StudySearch
from prunepeft_ray.jobs import TrainResult, Work


class StudyRun:
    """Hands out the jobs of many searches, each job once, and passes its result to every search that asked for it.

    All methods run in one separate thread: a surrogate that takes a minute to fit keeps no worker waiting, and since
    only one method runs at a time, none disturbs the random numbers of another.

    Args:
        searches: The searches, in the order in which they should begin.
        on_end: Called in the methods' thread when a search has ended.
        method_thread: Runs the methods, one call at a time and in order; default: a thread.
    """

    def __init__(
        self,
        searches: Sequence[StudySearch],
        on_end: Callable[[StudySearch], None],
        method_thread: Executor | None = None,
    ) -> None:
        self.searches = searches
        self.error: BaseException | None = None
        self._on_end = on_end
        self._lock = threading.Lock()
        self._method_thread = method_thread or ThreadPoolExecutor(
            1, thread_name_prefix="thinking", initializer=compute_alone
        )
        self._pending = 0
        self._queues: dict[int, deque[Work]] = {number: deque() for number in range(len(searches))}
        self._turn = 0
        self._running: dict[str, list[int]] = {}
        self._finished: set[str] = set()
        self._begun = time.monotonic()
        self._finished_here: Counter[str] = Counter()
        # a search that begins may update this object while others are still being queued
        with self._lock:
            for number, search in enumerate(searches):
                self._submit(number, search.begin)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do, or an error occurred."""
        with self._lock:
            if self.error is not None:
                return True
            return not self._pending and not self._running and not any(self._queues.values())

    @property
    def is_thinking(self) -> bool:
        """Whether a method is processing results or proposing jobs."""
        with self._lock:
            return self._pending > 0

    @property
    def has_work(self) -> bool:
        """Whether a job is waiting to run."""
        with self._lock:
            return any(self._queues.values())

    @property
    def wanted(self) -> int:
        """Number of jobs that could run at once now, including those already running."""
        with self._lock:
            running, waiting = self._running_by_method(), Counter[str]()
            for number, queue in self._queues.items():
                method = self.searches[number].cell.method
                waiting[method.label] += len(queue)
                if method.concurrency is not None:
                    room = max(0, method.concurrency - running[method.label])
                    waiting[method.label] = min(waiting[method.label], room)
            return len(self._running) + waiting.total()

    def next(self) -> tuple[StudySearch, Work] | None:
        """Return a job to run now, with the first search that asked for it; None if there is none yet."""
        with self._lock:
            running = self._running_by_method()
            for number in self._in_turn():
                search, queue = self.searches[number], self._queues[number]
                if search.ended:
                    queue.clear()
                limit = search.cell.method.concurrency
                while queue and (limit is None or running[search.cell.method.label] < limit):
                    work = queue.popleft()
                    if work.job.id in self._finished:
                        self._submit(number, functools.partial(search.recall, work))
                        continue
                    if work.job.id in self._running:
                        self._running[work.job.id].append(number)
                        running[search.cell.method.label] += 1
                        continue
                    self._running[work.job.id] = [number]
                    self._turn = number + 1
                    return search, work
        return None

    def finish(self, job_id: str, result: TrainResult) -> None:
        """Pass the result of a job to every search that asked for it."""
        with self._lock:
            self._finished.add(job_id)
            for number in self._running.pop(job_id):
                search = self.searches[number]
                self._finished_here[search.cell.method.label] += 1
                self._submit(number, functools.partial(search.tell, job_id, result))

    def close(self) -> None:
        """Shut down the methods' thread, once its current call has returned."""
        self._method_thread.shutdown(wait=True, cancel_futures=True)

    def progress(self) -> list[MethodProgress]:
        """Return the progress of each method."""
        with self._lock:
            running = self._running_by_method()
            by_label: dict[str, list[StudySearch]] = {}
            for search in self.searches:
                by_label.setdefault(search.cell.method.label, []).append(search)
            return [self._progress(label, found, running[label]) for label, found in by_label.items()]

    def _progress(self, label: str, searches: list[StudySearch], running: int) -> MethodProgress:
        best: dict[tuple[str, str], float | None] = {}
        for search in searches:
            key, value = (search.cell.model, search.cell.task.name), search.best_value
            before = best.get(key)
            best[key] = value if before is None else before if value is None else max(before, value)
        left = [search.jobs_left for search in searches]
        known = [jobs for jobs in left if jobs is not None]
        here, passed = self._finished_here[label], time.monotonic() - self._begun
        total = sum(known) if len(known) == len(left) else None
        return MethodProgress(
            method=label,
            ended=sum(search.ended for search in searches),
            failed=sum(search.state == "failed" for search in searches),
            searches=len(searches),
            jobs=sum(search.told for search in searches),
            running=running,
            best=best,
            epochs=sum(search.examples / search.setting.train_size for search in searches),
            seconds_left=passed / here * total if here and total is not None else 0.0 if total == 0 else None,
        )

    def _running_by_method(self) -> Counter[str]:
        numbers = [number for numbers in self._running.values() for number in numbers]
        return Counter(self.searches[number].cell.method.label for number in numbers)

    def _in_turn(self) -> list[int]:
        """Return the indices of all searches in turn, starting after the one that got the last job."""
        numbers = list(range(len(self.searches)))
        start = self._turn % max(1, len(numbers))
        return numbers[start:] + numbers[:start]

    def _submit(self, number: int, action: Callable[[], list[Work]]) -> None:
        self._pending += 1
        self._method_thread.submit(self._advance, number, action)

    def _advance(self, number: int, action: Callable[[], list[Work]]) -> None:
        search = self.searches[number]
        ended = search.ended
        new: list[Work] = []
        try:
            new = action()
            if search.ended and not ended and search.has_progressed:
                self._on_end(search)
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self.error = self.error or error
        with self._lock:
            self._queues[number].extend(new)
            self._pending -= 1


def compute_alone() -> None:
    """Use one thread, so that sums, and with them a surrogate's proposals, do not depend on the number of cores."""
    import torch

    torch.set_num_threads(1)


def run_here(
    run: StudyRun,
    execute: Callable[[StudySearch, Work], TrainResult],
    stop_wanted: Callable[[], bool] = lambda: False,
) -> None:
    """Run a study's jobs in this process, one by one, until the study is over.

    Methods and jobs take turns, since both draw from this process's random numbers.

    Args:
        run: The study.
        execute: Runs a job and stores its result.
        stop_wanted: Whether no new job should begin.

    Raises:
        PrunePEFTError: If the study cannot continue.
    """
    try:
        while not run.over and not stop_wanted():
            if run.is_thinking or (found := run.next()) is None:
                time.sleep(0.001)
                continue
            search, work = found
            run.finish(work.job.id, execute(search, work))
    finally:
        run.close()
    if run.error is not None:
        raise run.error
