"""Explanations of what a run waits for."""

from __future__ import annotations

from collections.abc import Sequence

from prunepeft_ray.cluster.resources import Bundle, fits, total
from prunepeft_ray.cluster.sharing.fairness import Claim
from prunepeft_ray.text import amount

SHOWN = 3
"""Maximum number of runs named as holders of a resource."""


def explain(
    claim: Claim, everyone: Sequence[Claim], units: dict[str, int], nodes: Sequence[Bundle], now: float, may_grow: bool
) -> str:
    """Say what a run is waiting for, and which runs hold it.

    Args:
        claim: The waiting run's claim.
        everyone: All claims.
        units: Units granted, by name of the run.
        nodes: Resources of each node.
        now: Current time in seconds, on the same clock as the claims.
        may_grow: Whether an autoscaler may add nodes.
    """
    there, needs = total(nodes), claim.needs
    if not fits(claim.unit, nodes):
        short = [kind for kind in needs if there.get(kind, 0) < needs[kind]]
        kind = _scarcest(short or list(needs))
        has = f"the cluster has {there.get(kind, 0) or 'none':{'g' if there.get(kind) else ''}} now"
        why = has if short else "no node of the cluster is large enough"
        hope = " (an autoscaler may add nodes)" if may_grow else ""
        return f"waiting for {amount(needs[kind], kind)}: {why}{hope}"
    kind = _scarcest(list(needs))
    parts = [part for part in (_holders(kind, everyone, units, there), _ahead(claim, everyone, units, now)) if part]
    return f"waiting for {amount(needs[kind], kind)}: {'; '.join(parts)}"


def _scarcest(kinds: list[str]) -> str:
    return "GPU" if "GPU" in kinds else kinds[0]


def _holders(kind: str, everyone: Sequence[Claim], units: dict[str, int], there: Bundle) -> str:
    """List the runs that hold a resource, the largest holder first."""
    held = {claim.job: units[claim.job] * claim.needs.get(kind, 0) for claim in everyone}
    holders = sorted((c for c in everyone if held[c.job]), key=lambda claim: (-held[claim.job], claim.since, claim.job))
    if not holders:
        return ""
    first, *others = holders
    shown = [f"{_named(first)} holds {held[first.job]:g} of the cluster's {amount(there[kind], kind)}"]
    shown += [f"{_named(other)} {held[other.job]:g}" for other in others[: SHOWN - 1]]
    if rest := others[SHOWN - 1 :]:
        shown.append(f"{len(rest)} more {sum(held[other.job] for other in rest):g}")
    return ", ".join(shown)


def _ahead(claim: Claim, everyone: Sequence[Claim], units: dict[str, int], now: float) -> str:
    """Say which other waiting runs will begin earlier."""
    waiting = [other for other in everyone if not units[other.job] and other != claim]
    mine = (-claim.urgency(now), claim.since, claim.job)
    ahead = [other for other in waiting if (-other.urgency(now), other.since, other.job) < mine]
    if not ahead:
        return ""
    first = min(ahead, key=lambda other: (-other.urgency(now), other.since, other.job))
    others = f" and {len(ahead) - 1} more" if len(ahead) > 1 else ""
    return f"{_named(first)}{others} {'come' if others else 'comes'} first"


def _named(claim: Claim) -> str:
    return f"{claim.job} (priority {claim.priority})"
