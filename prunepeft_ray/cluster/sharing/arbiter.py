"""The arbiter of a cluster: an actor that grants each run its share. Import it only when Ray is configured.

It is a named actor, created by the first run that needs it, and its state may be lost: if it dies, the runs create
another one and claim again.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

from prunepeft_ray.cluster.nodes import may_grow, nodes
from prunepeft_ray.cluster.private_ray.wording import HEAD_RESOURCE
from prunepeft_ray.cluster.sharing.fairness import Claim
from prunepeft_ray.cluster.sharing.ledger import Answer, Ledger

NAME = "prunepeft-arbiter"
NAMESPACE = "prunepeft"
IDLE_SECONDS = 60.0
LOOK_SECONDS = 1.0
ASK_SECONDS = 5.0
LISTEN_SECONDS = 3.0
"""How long a new arbiter collects claims before it lets any run begin."""


class Arbiter:
    """Shares out the cluster that it runs on; a Ray actor.

    Args:
        idle_seconds: How long it stays when there are no claims.
    """

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._ledger = Ledger(opens=time.monotonic() + LISTEN_SECONDS)
        self._lock = threading.Lock()
        self._asked: list[dict[str, float]] | None = None
        self._asked_at = 0.0
        self._busy = time.monotonic()
        self._me = ray.get_runtime_context().current_actor
        self._look()
        threading.Thread(target=self._watch, daemon=True, name="arbiter").start()

    def renew(self, token: str, claim: Claim, waited: float) -> Answer:
        """Accept or renew a run's claim, and return what it is granted.

        Args:
            token: Unique id of the run.
            claim: The run's claim.
            waited: Seconds since the run first claimed.
        """
        now = time.monotonic()
        with self._lock:
            self._busy = now
            return self._ledger.renew(token, replace(claim, since=now - waited), now, *self._cluster)

    def leave(self, token: str) -> None:
        """Forget a run that has ended."""
        with self._lock:
            self._ledger.leave(token)

    def _look(self) -> None:
        self._cluster = nodes(), may_grow()

    def _watch(self) -> None:
        while time.monotonic() - self._busy < self._idle_seconds:
            time.sleep(LOOK_SECONDS)
            # the cluster's head may be about to restart
            with suppress(Exception):
                self._look()
            # no run's claim may stop the others from being served
            wanted: list[dict[str, float]] = []
            with suppress(Exception), self._lock:
                self._ledger.expire(time.monotonic())
                wanted = self._ledger.wanted
            self._ask_for(wanted)
        ray.kill(self._me)

    def _ask_for(self, wanted: list[dict[str, float]]) -> None:
        """Tell the autoscaler, if there is one, what could be used: it adds nodes, and keeps them in the meantime."""
        # Ray Train requests resources too, and the last request wins
        if wanted == self._asked and (not wanted or time.monotonic() - self._asked_at < ASK_SECONDS):
            return
        with suppress(Exception):
            request_resources(bundles=wanted)
            self._asked, self._asked_at = wanted, time.monotonic()


def find_arbiter() -> Any:
    """Return the handle of the cluster's arbiter; it is started on the head node, without CPUs, if there is none."""
    return (
        ray.remote(Arbiter)
        .options(
            name=NAME,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            resources={HEAD_RESOURCE: 0.001},
        )
        .remote()
    )
