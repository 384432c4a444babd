"""Sharing out a cluster among runs. Pure arithmetic: no Ray, no clocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prunepeft_ray.cluster.resources import TOLERANCE, Bundle, _Room, fits, total

AGING_SECONDS = 600.0
"""How long a run waits until it counts as if its priority were higher by 1."""


@dataclass(frozen=True)
class Claim:
    """What a run asks of a cluster.

    Args:
        job: Its name, different from all others'.
        since: When it came, in seconds on the same clock for all.
        priority: Higher begins earlier, and gets twice the share for each step.
        unit: What must be there together: a training job of a study, a worker of a search; one bundle per process.
        units: Most units that it can use now.
        begun: Whether it has begun to train; it then keeps a unit until its end.
        cpus: Most CPUs that it may have; None: no limit.
        gpus: Most GPUs that it may have; None: no limit.
    """

    job: str
    since: float
    priority: int
    unit: tuple[Bundle, ...]
    units: int
    begun: bool = False
    cpus: float | None = None
    gpus: float | None = None

    @property
    def needs(self) -> dict[str, float]:
        """Resources of a unit."""
        return total(self.unit)

    @property
    def most(self) -> int:
        """Units that it can use within its limits."""
        needs, found = self.needs, self.units
        for kind, limit in (("CPU", self.cpus), ("GPU", self.gpus)):
            if limit is not None and needs.get(kind):
                found = min(found, int(limit / needs[kind] + TOLERANCE))
        return found

    def urgency(self, now: float) -> float:
        """Priority with the time that it has waited."""
        return self.priority + (now - self.since) / AGING_SECONDS


def share_out(claims: Iterable[Claim], nodes: Sequence[Bundle], now: float) -> dict[str, int]:
    """Say how many units each run may use now.

    Who has begun keeps a unit. Those that wait begin in the order of priority and waiting time, if there is room; one
    that has waited for long and needs more room than is left holds back those behind it, so that the room comes
    together. What is left goes unit by unit to the run with the smallest weighted dominant share (Ghodsi et al.,
    "Dominant Resource Fairness", NSDI 2011), for as long as anything of use to anybody is left.

    Args:
        claims: What the runs ask.
        nodes: Resources of each node.
        now: The time, on the clock of the claims.

    Returns:
        Units by the name of the run; 0 for those that must wait.
    """
    everyone = sorted(claims, key=lambda claim: (claim.since, claim.job))
    room, units = _Room(nodes), {claim.job: 0 for claim in everyone}
    for claim in sorted((c for c in everyone if c.begun), key=lambda claim: -claim.priority):
        units[claim.job] = int(claim.most > 0 and room.take(claim.unit))
    for claim in sorted((c for c in everyone if not c.begun), key=lambda claim: -claim.urgency(now)):
        units[claim.job] = int(claim.most > 0 and room.take(claim.unit))
        if not units[claim.job] and now - claim.since >= AGING_SECONDS and claim.most and fits(claim.unit, nodes):
            break
    _deal_out(everyone, units, room, total(nodes))
    return units


def _deal_out(everyone: Sequence[Claim], units: dict[str, int], room: _Room, there: Bundle) -> None:
    growing = [claim for claim in everyone if units[claim.job]]
    while growing:
        poorest = min(growing, key=lambda claim: _dominant_share(claim, units[claim.job], there) / 2**claim.priority)
        if units[poorest.job] < poorest.most and room.take(poorest.unit):
            units[poorest.job] += 1
        else:
            growing.remove(poorest)


def _dominant_share(claim: Claim, units: int, there: Bundle) -> float:
    return max(units * amount / there[kind] for kind, amount in claim.needs.items() if amount)
