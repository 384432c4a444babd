"""What the arbiter of a cluster knows: who claims what, who gets how much, and why others wait. No Ray here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from prunepeft_ray.cluster.resources import Bundle
from prunepeft_ray.cluster.sharing.explain import explain
from prunepeft_ray.cluster.sharing.fairness import Claim, share_out

LEASE_SECONDS = 15.0
"""How long a claim counts that is not renewed: its run may have been killed."""
DEAL_SECONDS = 1.0
"""How long a deal holds while nothing changes but the time."""


@dataclass(frozen=True)
class Answer:
    """What a run is told.

    Args:
        units: How many it may use now.
        reason: What it waits for, if it has none.
    """

    units: int
    reason: str = ""


class Ledger:
    """The claims on a cluster; everything in it can be lost, for the runs claim again every second.

    Args:
        opens: When the first may begin: until then, those that run already have claimed again.
    """

    def __init__(self, opens: float = 0.0) -> None:
        self._opens = opens
        self._claims: dict[str, Claim] = {}
        self._renewed: dict[str, float] = {}
        self._dealt: tuple[float, list[Claim], Sequence[Bundle]] = (-1.0, [], [])
        self._units: dict[str, int] = {}

    @property
    def wanted(self) -> list[dict[str, float]]:
        """All bundles that could be used if the cluster grew."""
        return [dict(bundle) for claim in self._claims.values() for bundle in claim.unit * claim.most]

    def renew(self, token: str, claim: Claim, now: float, nodes: Sequence[Bundle], may_grow: bool) -> Answer:
        """Take a claim, or what has become of it, and say what its run gets.

        Args:
            token: What tells the run from all others; names may be the same.
            claim: What it asks; of the time only the first claim's counts.
            now: The time, in seconds on any one clock.
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
        # from now on nobody who comes may push it back
        self._claims[token] = replace(claim, begun=True)
        return Answer(units[claim.job])

    def _share_out(self, nodes: Sequence[Bundle], now: float) -> dict[str, int]:
        """Share out anew if something has changed; time alone changes things slowly."""
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
        """Forget the runs that have not renewed their claims."""
        for token in [token for token, last in self._renewed.items() if now - last > LEASE_SECONDS]:
            self.leave(token)
