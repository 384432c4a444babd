"""Dividing a cluster between runs: pure arithmetic, without Ray or clocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prunepeft_ray.cluster.resources import TOLERANCE, Bundle, _Room, fits, total

AGING_SECONDS = 600.0
"""Waiting time that counts as much as one step of priority."""


@dataclass(frozen=True)
class Claim:
    """A run's claim to a share of a cluster.

    Args:
        job: Unique name of the run.
        since: When the run first claimed, in seconds on one clock for all claims.
        priority: Runs of higher priority begin earlier, and get twice the share for each step.
        unit: Resources that are only of use together: a training job of a study or a worker of a search; one bundle
            per process.
        units: Maximum number of units that the run can use now.
        begun: Whether it has begun to train; it then keeps at least one unit until it ends.
        cpus: Maximum number of CPUs it may have; None: no limit.
        gpus: Maximum number of GPUs it may have; None: no limit.
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
    def max_units(self) -> int:
        """Maximum number of units that the run can use within its limits."""
        needs, found = self.needs, self.units
        for kind, limit in (("CPU", self.cpus), ("GPU", self.gpus)):
            if limit is not None and needs.get(kind):
                found = min(found, int(limit / needs[kind] + TOLERANCE))
        return found

    def urgency(self, now: float) -> float:
        """Priority, raised by the time the run has waited."""
        return self.priority + (now - self.since) / AGING_SECONDS


def share_out(claims: Iterable[Claim], nodes: Sequence[Bundle], now: float) -> dict[str, int]:
    """Compute how many units each run may use now.

    Runs that have begun keep one unit. Waiting runs begin in order of priority and waiting time while there is room;
    one that has waited for long and needs more room than is left blocks those behind it, so that enough room becomes
    free. The rest is granted unit by unit to the run with the smallest weighted dominant share (Ghodsi et al.,
    "Dominant Resource Fairness", NSDI 2011), until no run can use anything that is left.

    Args:
        claims: Claims of all runs.
        nodes: Resources of each node.
        now: Current time in seconds, on the same clock as the claims.

    Returns:
        Units by name of the run; 0 for runs that must wait.
    """
    everyone = sorted(claims, key=lambda claim: (claim.since, claim.job))
    room, units = _Room(nodes), {claim.job: 0 for claim in everyone}
    for claim in sorted((c for c in everyone if c.begun), key=lambda claim: -claim.priority):
        units[claim.job] = int(claim.max_units > 0 and room.take(claim.unit))
    for claim in sorted((c for c in everyone if not c.begun), key=lambda claim: -claim.urgency(now)):
        units[claim.job] = int(claim.max_units > 0 and room.take(claim.unit))
        if not units[claim.job] and now - claim.since >= AGING_SECONDS and claim.max_units and fits(claim.unit, nodes):
            break
    _deal_out(everyone, units, room, total(nodes))
    return units


def _deal_out(everyone: Sequence[Claim], units: dict[str, int], room: _Room, there: Bundle) -> None:
    growing = [claim for claim in everyone if units[claim.job]]
    while growing:
        poorest = min(growing, key=lambda claim: _dominant_share(claim, units[claim.job], there) / 2**claim.priority)
        if units[poorest.job] < poorest.max_units and room.take(poorest.unit):
            units[poorest.job] += 1
        else:
            growing.remove(poorest)


def _dominant_share(claim: Claim, units: int, there: Bundle) -> float:
    return max(units * amount / there[kind] for kind, amount in claim.needs.items() if amount)
