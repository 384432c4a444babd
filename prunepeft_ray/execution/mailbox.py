"""Where workers and driver of a search leave word for each other."""

from __future__ import annotations

import queue
from contextlib import suppress
from typing import Any, Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prunepeft_ray.errors import PrunePEFTError
from prunepeft_ray.events import Emit, Event

TIMEOUT_SECONDS = 10

Verdict = Literal["stop"] | PrunePEFTError | None
"""Why workers should not go on: somebody wants them to stop, or an error that trying again does not mend."""


class Board:
    """News from the workers for the driver, and its wishes for them; a Ray actor that outlives lost workers."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._running: set[str] = set()
        self._short_of_memory: set[str] = set()
        self._verdict: Verdict = None
        self._workers: list[Any] = []

    def join(self, worker: Any) -> Verdict:
        """Take in a worker's own actor handle; returns the verdict, if there is one already."""
        self._workers.append(worker)
        return self._verdict

    def workers(self) -> list[Any]:
        """Return the actor handles of all workers that have joined since one was lost."""
        return self._workers

    def post(self, event: Event) -> bool:
        """Leave an event; returns whether somebody wants the search to stop."""
        if event.type == "start":
            self._running.add(event.job_id)
        elif event.type == "end":
            self._running.discard(event.job_id)
        self._events.put(event)
        return self._verdict is not None

    def settle(self) -> None:
        """Return when everything that the caller posted before has arrived."""

    def take(self) -> list[Event]:
        """Take all events that were left since."""
        return [self._events.get() for _ in range(self._events.qsize())]

    def stop(self) -> None:
        """Ask the workers to stop."""
        self._verdict = self._verdict or "stop"

    def go_on(self) -> None:
        """Let the next workers work, after others were asked to stop."""
        if self._verdict == "stop":
            self._verdict = None
        self._running.clear()
        self._workers.clear()

    def fail(self, error: PrunePEFTError) -> None:
        """Say that going on is of no use."""
        self._verdict = error

    def verdict(self) -> Verdict:
        """Return why workers should not go on, or None if they should."""
        return self._verdict

    def lose(self, out_of_memory: bool) -> None:
        """Note that workers were lost; jobs that ran when memory ran out must try with less."""
        if out_of_memory:
            self._short_of_memory |= self._running
        self._running.clear()
        self._workers.clear()

    def short_of_memory(self) -> set[str]:
        """Return the jobs that ran when a worker was ended for want of memory."""
        return self._short_of_memory


class Line:
    """A worker's line to the board.

    Args:
        board: The board's actor handle.
    """

    def __init__(self, board: Any) -> None:
        self._board = board
        self._answer: Any = None
        self._stop = False

    def emit(self, event: Event) -> None:
        """Leave an event; does not wait."""
        # or slow steps, each with news, would never hear an answer
        self.stop_wanted()
        self._answer = self._board.post.remote(event)

    def stop_wanted(self) -> bool:
        """Whether the board's last answer said that the search should stop; does not wait."""
        import ray
        from ray.exceptions import RayError

        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            with suppress(RayError):
                self._stop = self._stop or bool(ray.get(self._answer))
            self._answer = None
        return self._stop

    def settle(self) -> None:
        """Wait until everything has arrived; the last news would be lost with this process."""
        import ray
        from ray.exceptions import RayError

        with suppress(RayError):
            ray.get(self._board.settle.remote(), timeout=TIMEOUT_SECONDS)


class Reader:
    """The driver's side: passes events on and knows which jobs run.

    Args:
        board: The board's actor handle.
        emit: Told the events.
    """

    def __init__(self, board: Any, emit: Emit) -> None:
        self._board = board
        self._emit = emit
        self._asked: Any = None
        self.running: set[str] = set()
        self.stopping = False

    def read(self, seconds: float) -> bool:
        """Pass on what has arrived.

        Args:
            seconds: How long to wait for the board's answer; if it does not come, the next call asks for the same one.

        Returns:
            Whether there was an answer.
        """
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        if self._asked is None:
            self._asked = self._board.take.remote()
        try:
            events = ray.get(self._asked, timeout=seconds)
        except GetTimeoutError:
            # a busy machine; the events that were asked for still come
            return False
        except RayError:
            events = []
        self._asked = None
        for event in events:
            self._pass_on(event)
        return True

    def _pass_on(self, event: Event) -> None:
        if event.type == "start":
            self.running.add(event.job_id)
        elif event.type == "end":
            self.running.discard(event.job_id)
        elif event.type == "lost":
            self.running.clear()
        # workers that are lost while stopping were meant to end
        if not (self.stopping and event.type == "lost"):
            self._emit(event)


def start_board() -> Any:
    """Start the board, on this node; returns its actor handle."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Board).remote()
