"""State of a cluster's arbiter: claims, the units granted, and why runs wait. Does not import Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from prunepeft_ray.cluster.resources import Bundle
from prunepeft_ray.cluster.sharing.explain import explain
from prunepeft_ray.cluster.sharing.fairness import Claim, share_out

CLAIM_SECONDS = 15.0
"""How long a claim is valid without being renewed: its run may have been killed."""
DEAL_SECONDS = 1.0
"""How long an allocation is kept while nothing but the time changes."""


@dataclass(frozen=True)
class Answer:
    """The arbiter's answer to a claim.

    Args:
        units: Number of units that the run may use now.
        reason: What the run is waiting for, if it has none.
    """

    units: int
    reason: str = ""


class Ledger:
    """The claims on a cluster; it may be lost at any time, since the runs renew their claims every second.

    Args:
        opens: When waiting runs may begin; until then, runs that have already begun claim again.
    """

    def __init__(self, opens: float = 0.0) -> None:
        self._opens = opens
        self._claims: dict[str, Claim] = {}
        self._renewed: dict[str, float] = {}
        self._dealt: tuple[float, list[Claim], Sequence[Bundle]] = (-1.0, [], [])
        self._units: dict[str, int] = {}

    @property
    def wanted(self) -> list[dict[str, float]]:
        """All bundles that the runs could use if the cluster grew."""
        return [dict(bundle) for claim in self._claims.values() for bundle in claim.unit * claim.max_units]

    def renew(self, token: str, claim: Claim, now: float, nodes: Sequence[Bundle], may_grow: bool) -> Answer:
        """Accept a new, renewed or changed claim, and return what its run is granted.

        Args:
            token: Unique id of the run; names need not be unique.
            claim: The run's claim; ``since`` counts only in its first one.
            now: Current time in seconds, on any one clock.
            nodes: Resources of each node.
            may_grow: Whether an autoscaler may add nodes.
        """
        self.expire(now)
        before = self._claims.get(token)
        if before is not None:
            claim = replace(claim, since=before.since, begun=claim.begun or before.begun)
        if any(claim.job == other.job for key, other in self._claims.items() if key != token):
            claim = replace(claim, job=f"{claim.job}-{token[:6]}")
        self._claims[token], self._renewed[token] = claim, now
        if now < self._opens and not claim.begun:
            return Answer(0)
        units = self._share_out(nodes, now)
        if not units[claim.job]:
            return Answer(0, explain(claim, list(self._claims.values()), units, nodes, now, may_grow))
        # from now on no new run may displace it
        self._claims[token] = replace(claim, begun=True)
        return Answer(units[claim.job])

    def _share_out(self, nodes: Sequence[Bundle], now: float) -> dict[str, int]:
        """Recompute the allocation if something has changed; time alone changes it slowly."""
        at, claims, there = self._dealt
        everyone = list(self._claims.values())
        if now - at >= DEAL_SECONDS or claims != everyone or there != nodes:
            self._units, self._dealt = share_out(everyone, nodes, now), (now, everyone, nodes)
        return self._units

    def leave(self, token: str) -> None:
        """Forget a run that has ended."""
        self._claims.pop(token, None)
        self._renewed.pop(token, None)

    def expire(self, now: float) -> None:
        """Forget runs that have not renewed their claims."""
        for token in [token for token, last in self._renewed.items() if now - last > CLAIM_SECONDS]:
            self.leave(token)
