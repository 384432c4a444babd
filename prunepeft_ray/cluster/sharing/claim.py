"""A run's side of sharing a cluster: its claim, renewed by a thread, and its current share."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, Protocol

from prunepeft_ray.cluster.resources import Bundle, total
from prunepeft_ray.cluster.sharing.fairness import Claim
from prunepeft_ray.cluster.sharing.ledger import Answer
from prunepeft_ray.cluster.sharing.terms import Terms
from prunepeft_ray.errors import RunError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.signals import StopRequest

RENEW_SECONDS = 1.0
HOLD_SECONDS = 10.0
"""How long a run keeps claiming what it last wanted: between two jobs it wants nothing for a moment."""
ANSWER_SECONDS = 10.0
SILENCE_SECONDS = 60.0
"""How long a waiting run tolerates getting no answer from an arbiter."""
REPEAT_SECONDS = 60.0
POLL_SECONDS = 0.2


class Share(Protocol):
    """A run's share of its cluster."""

    @property
    def units(self) -> int:
        """Number of units that the run may use now; 0 while it must wait."""

    @property
    def held(self) -> Mapping[str, float]:
        """Resources of these units, by kind; empty on a cluster that no other run uses."""

    @property
    def reason(self) -> str:
        """What the run is waiting for; empty if it is not waiting.

        Raises:
            RunError: If there is no arbiter to answer.
        """

    def wants(self, units: int) -> None:
        """Set how many units the run can use now."""


class WholeCluster:
    """All of a cluster that no other run uses.

    Args:
        units: Number of units that the cluster holds.
    """

    held: Mapping[str, float] = MappingProxyType({})
    reason = ""

    def __init__(self, units: int) -> None:
        self.units = units

    def wants(self, units: int) -> None:
        """Do nothing: the run has all units anyway."""


class ClaimedShare:
    """The share granted by the cluster's arbiter.

    Args:
        terms: How the run shares the cluster.
        unit: Resources that are only of use together, a bundle per process.
        units: Number of units that the run can use.
    """

    def __init__(self, terms: Terms, unit: Sequence[Bundle], units: int) -> None:
        self._terms, self._unit = terms, tuple(unit)
        self._token = secrets.token_hex(8)
        self._came = time.monotonic()
        self._wanted = [(self._came, units)]
        self._answer, self._begun, self._heard = Answer(0), False, self._came
        self._arbiter: Any = None
        self._error = "it does not answer"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_over, daemon=True, name="claiming")
        self._thread.start()

    @property
    def units(self) -> int:
        """Number of units that the run may use now; 0 while it must wait."""
        return self._answer.units

    @property
    def held(self) -> Mapping[str, float]:
        """Resources of these units, by kind."""
        return total(self._unit * self.units)

    @property
    def reason(self) -> str:
        """What the run is waiting for; empty if it is not waiting.

        Raises:
            RunError: If the arbiter does not start.
        """
        if not self._answer.reason and not self._begun and time.monotonic() - self._heard > SILENCE_SECONDS:
            raise RunError(
                f"the arbiter that shares out the cluster does not start on the head node: {self._error}; is "
                "prunepeft-ray installed there?"
            )
        return self._answer.reason

    def wants(self, units: int) -> None:
        """Set how many units the run can use now; it keeps its current share for some seconds."""
        self._wanted = [*self._lately(), (time.monotonic(), units)]

    def _lately(self) -> list[tuple[float, int]]:
        """The numbers of units wanted during the last seconds, and the latest one."""
        now = time.monotonic()
        return [(at, n) for at, n in self._wanted[:-1] if now - at < HOLD_SECONDS] + self._wanted[-1:]

    def leave(self) -> None:
        """Release the whole share."""
        from ray.exceptions import RayError

        self._over.set()
        self._thread.join()
        if self._arbiter is not None:
            with suppress(RayError):
                import ray

                ray.get(self._arbiter.leave.remote(self._token), timeout=RENEW_SECONDS)

    def _renew_until_over(self) -> None:
        while not self._over.is_set():
            try:
                self._renew()
            except Exception as error:  # noqa: BLE001  whatever it is, another arbiter is created and asked
                self._arbiter = None
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                self._error = lines[-1][:200] if lines else type(error).__name__
            self._over.wait(RENEW_SECONDS)

    def _renew(self) -> None:
        import ray

        from prunepeft_ray.cluster.sharing.arbiter import find_arbiter

        if self._arbiter is None:
            self._arbiter = find_arbiter()
        waited = time.monotonic() - self._came
        asked = self._arbiter.renew.remote(self._token, self._claim(), waited)
        self._answer = ray.get(asked, timeout=ANSWER_SECONDS)
        self._heard = time.monotonic()
        self._begun = self._begun or self._answer.units > 0

    def _claim(self) -> Claim:
        terms, most = self._terms, max(1, *(n for _, n in self._lately()))
        return Claim(terms.job, 0.0, terms.priority, self._unit, most, self._begun, terms.cpus, terms.gpus)


@contextmanager
def claiming(terms: Terms, unit: Sequence[Bundle], units: int) -> Iterator[ClaimedShare]:
    """Claim a share of the cluster, and release it at the end.

    Args:
        terms: How the run shares the cluster; must contain a name.
        unit: Resources that are only of use together, a bundle per process.
        units: Number of units that the run can use.
    """
    claimed = ClaimedShare(terms, unit, units)
    try:
        yield claimed
    finally:
        claimed.leave()


class ShareReporter:
    """Emits an event when a run's share changes, or what the run is waiting for, repeated every minute.

    Args:
        share: The run's share.
        emit: Callback that receives events.
    """

    def __init__(self, share: Share, emit: Emit) -> None:
        self._share = share
        self._emit = emit
        self._held: Mapping[str, float] = {}
        self._reason, self._due = "", 0.0

    def report(self) -> None:
        """Emit the events that are due.

        Raises:
            RunError: If the cluster has no arbiter.
        """
        held, reason, now = self._share.held, self._share.reason, time.monotonic()
        if held != self._held:
            self._emit(Event("share", "", resources=held))
            self._held = held
        if reason and (reason != self._reason or now >= self._due):
            self._emit(Event("waiting", reason))
            self._due = now + REPEAT_SECONDS
        self._reason = reason


def wait_for_share(share: Share, emit: Emit, request: StopRequest) -> None:
    """Wait until a run may begin, and emit what it is waiting for.

    Args:
        share: The run's share.
        emit: Callback that receives events.
        request: Whether a signal has requested a stop.

    Raises:
        RunError: If the cluster has no arbiter.
        KeyboardInterrupt: On SIGINT.
        Terminated: On SIGTERM.
    """
    reporter = ShareReporter(share, emit)
    while share.units < 1:
        if request.signal is not None:
            request.interrupt()
        reporter.report()
        time.sleep(POLL_SECONDS)
    reporter.report()
