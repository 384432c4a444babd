"""The mailbox through which the workers and the driver of a run exchange events and requests."""

from __future__ import annotations

import queue
from contextlib import suppress
from typing import Any, Literal

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prunepeft_ray.errors import PrunePEFTError
from prunepeft_ray.events import Emit, Event

TIMEOUT_SECONDS = 10

Verdict = Literal["stop"] | PrunePEFTError | None
"""Why workers should not continue: a request to stop, or an error that a retry cannot fix."""


class Mailbox:
    """Events from the workers for the driver, and its requests to them; a Ray actor that outlives lost workers."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._running: set[str] = set()
        self._short_of_memory: set[str] = set()
        self._verdict: Verdict = None
        self._workers: list[Any] = []

    def join(self, worker: Any) -> Verdict:
        """Register a worker by its actor handle; returns the verdict, if there is one already."""
        self._workers.append(worker)
        return self._verdict

    def workers(self) -> list[Any]:
        """Return the actor handles of all workers that have joined since the last loss or restart."""
        return self._workers

    def post(self, event: Event) -> bool:
        """Post an event; returns whether the workers should stop."""
        if event.type == "start":
            self._running.add(event.job_id)
        elif event.type == "end":
            self._running.discard(event.job_id)
        self._events.put(event)
        return self._verdict is not None

    def settle(self) -> None:
        """Do nothing: once this call returns, everything that the caller has posted has arrived."""

    def take(self) -> list[Event]:
        """Remove and return all events posted so far."""
        return [self._events.get() for _ in range(self._events.qsize())]

    def stop(self) -> None:
        """Ask the workers to stop."""
        self._verdict = self._verdict or "stop"

    def reset(self) -> None:
        """Withdraw a request to stop, before a new group of workers starts."""
        if self._verdict == "stop":
            self._verdict = None
        self._running.clear()
        self._workers.clear()

    def fail(self, error: PrunePEFTError) -> None:
        """Record an error that a retry cannot fix."""
        self._verdict = error

    def verdict(self) -> Verdict:
        """Return why workers should not continue; None if they should."""
        return self._verdict

    def lose(self, out_of_memory: bool) -> None:
        """Record that workers were lost; jobs that were running when memory ran out must use less of it."""
        if out_of_memory:
            self._short_of_memory |= self._running
        self._running.clear()
        self._workers.clear()

    def short_of_memory(self) -> set[str]:
        """Return the jobs that were running when a worker was killed for lack of memory."""
        return self._short_of_memory


class Sender:
    """The worker's side of the mailbox: posts events, and learns whether to stop.

    Args:
        mailbox: Actor handle of the mailbox.
    """

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._answer: Any = None
        self._stop = False

    def emit(self, event: Event) -> None:
        """Post an event, without waiting."""
        # otherwise slow steps, with an event each, would never see an answer
        self.stop_wanted()
        self._answer = self._mailbox.post.remote(event)

    def stop_wanted(self) -> bool:
        """Whether the last answer of the mailbox was a request to stop; does not wait."""
        import ray
        from ray.exceptions import RayError

        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            with suppress(RayError):
                self._stop = self._stop or bool(ray.get(self._answer))
            self._answer = None
        return self._stop

    def settle(self) -> None:
        """Wait until all events have arrived; the last ones would be lost with this process."""
        import ray
        from ray.exceptions import RayError

        with suppress(RayError):
            ray.get(self._mailbox.settle.remote(), timeout=TIMEOUT_SECONDS)


class Reader:
    """The driver's side of the mailbox: passes events on, and keeps track of running jobs.

    Args:
        mailbox: Actor handle of the mailbox.
        emit: Callback that receives events.
    """

    def __init__(self, mailbox: Any, emit: Emit) -> None:
        self._mailbox = mailbox
        self._emit = emit
        self._asked: Any = None
        self.running: set[str] = set()
        self.stopping = False

    def read(self, seconds: float) -> bool:
        """Pass on the events that have arrived.

        Args:
            seconds: How long to wait for the mailbox; if it does not answer in time, the next call waits for the same
                answer.

        Returns:
            Whether there was an answer.
        """
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        if self._asked is None:
            self._asked = self._mailbox.take.remote()
        try:
            events = ray.get(self._asked, timeout=seconds)
        except GetTimeoutError:
            # a busy machine: the events requested will still come
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
        # while stopping, workers are meant to exit
        if not (self.stopping and event.type == "lost"):
            self._emit(event)


def stop_mailbox(mailbox: Any) -> None:
    """Stop the mailbox actor; handles held by the tracebacks of errors would keep it alive.

    Args:
        mailbox: Its handle.
    """
    with suppress(RayError):
        ray.kill(mailbox)


def start_mailbox() -> Any:
    """Start the mailbox actor on this node; returns its handle."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Mailbox).remote()
