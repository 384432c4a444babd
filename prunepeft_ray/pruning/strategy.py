"""The hybrid strategy S_H: which criterion judges which partition (paper, Section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prunepeft_ray.architecture import KINDS, Partition
from prunepeft_ray.errors import InputError, quoted

Table = Mapping[Partition, Mapping[str, float]]
"""A number for every partition and criterion."""


@dataclass(frozen=True)
class Strategy:
    """The outcome of a warm-up; partitions are relative to the depth, so it transfers to other tasks and depths.

    Args:
        select: How it was chosen: a registered selector, or ``"uniform"``.
        criteria: All criteria that took part.
        assignment: The criteria that judge each partition, at least one.
        weights: p(criterion | partition), which sum to 1 in every partition.
        evidence: What it is based on: numbers of removals, or held-out losses; empty if nothing was measured.
        seed: The seed of the warm-up.
        origin: Model, task, space and settings of the warm-up, as plain data for JSON.
        abstained: Criteria that distinguished no slots in the warm-up. They judge no partition and have no weight; if
            all criteria abstained, all have equal weight.
    """

    select: str
    criteria: tuple[str, ...]
    assignment: Mapping[Partition, tuple[str, ...]]
    weights: Table
    evidence: Table = field(default_factory=dict)
    seed: int = 0
    origin: Mapping[str, Any] = field(default_factory=dict)
    abstained: tuple[str, ...] = ()

    @classmethod
    def uniform(cls, partitions: Iterable[Partition], criteria: Sequence[str], seed: int = 0) -> Strategy:
        """Build the strategy with equal weights of all criteria in all partitions; it needs no warm-up."""
        ordered = sorted(set(partitions))
        return cls(
            select="uniform",
            criteria=tuple(criteria),
            assignment={partition: tuple(criteria) for partition in ordered},
            weights={partition: dict.fromkeys(criteria, 1 / len(criteria)) for partition in ordered},
            seed=seed,
        )

    @classmethod
    def from_counts(
        cls,
        counts: Table,
        partitions: Iterable[Partition],
        criteria: Sequence[str],
        seed: int = 0,
        origin: Mapping[str, Any] | None = None,
        abstained: Collection[str] = (),
    ) -> Strategy:
        """Choose criteria by how often they removed slots of a partition (paper, Section 3.3).

        A partition is assigned the criterion with the highest count; all tied ones on ties, and every criterion where
        nothing was removed. As in the released code, each criterion is also added where its own count is highest. The
        weights are the posterior mean under a uniform Dirichlet prior,
        ``(count + 1) / (sum + number of criteria)``.

        Args:
            counts: Numbers of removals; missing ones count as 0.
            partitions: All partitions of the space.
            criteria: All criteria that took part.
            seed: The seed of the warm-up.
            origin: Where the counts come from.
            abstained: Criteria that distinguished no slots.
        """
        voting = _voting(criteria, abstained)
        table = {p: {c: counts.get(p, {}).get(c, 0) for c in criteria} for p in sorted(set(partitions))}
        peaks = {c: max((row[c] for row in table.values()), default=0) for c in criteria}
        assignment = {
            partition: tuple(c for c in voting if row[c] == max(row.values()) or row[c] == peaks[c] > 0)
            for partition, row in table.items()
        }
        weights = {
            partition: {c: (row[c] + 1) / (sum(row.values()) + len(voting)) if c in voting else 0.0 for c in criteria}
            for partition, row in table.items()
        }
        return cls("frequency", tuple(criteria), assignment, weights, table, seed, origin or {}, tuple(abstained))

    @classmethod
    def from_losses(
        cls,
        losses: Table,
        partitions: Iterable[Partition],
        criteria: Sequence[str],
        seed: int = 0,
        origin: Mapping[str, Any] | None = None,
        abstained: Collection[str] = (),
    ) -> Strategy:
        """Choose the criteria whose removals hurt a partition least; the paper has no such warm-up.

        The criterion with the lowest loss wins; all of them on exact ties, and where nothing was measured. The weights
        are the softmax of the negative losses, standardised within the partition; they are 0 for criteria without one.

        Args:
            losses: Held-out loss after a criterion's removals, where it removed anything.
            partitions: All partitions of the space.
            criteria: All criteria that took part.
            seed: The seed of the warm-up.
            origin: Where the losses come from.
            abstained: Criteria that distinguished no slots.
        """
        voting = _voting(criteria, abstained)
        ordered = sorted(set(partitions))
        table = {p: {c: losses[p][c] for c in criteria if c in losses[p]} for p in ordered if losses.get(p)}
        measured = {p: table.get(p, dict.fromkeys(voting, 0.0)) for p in ordered}
        assignment = {
            p: tuple(c for c, loss in row.items() if loss == min(row.values())) for p, row in measured.items()
        }
        weights = {p: dict.fromkeys(criteria, 0.0) | _loss_weights(row) for p, row in measured.items()}
        return cls("effectiveness", tuple(criteria), assignment, weights, table, seed, origin or {}, tuple(abstained))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; partitions appear as text, such as ``"0.PA"``."""
        return {
            "select": self.select,
            "criteria": list(self.criteria),
            "seed": self.seed,
            "assignment": {str(p): list(names) for p, names in sorted(self.assignment.items())},
            "weights": {str(p): dict(row) for p, row in sorted(self.weights.items())},
            "evidence": {str(p): dict(row) for p, row in sorted(self.evidence.items())},
            "origin": dict(self.origin),
            "abstained": list(self.abstained),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Strategy:
        """Read a strategy back from :meth:`to_dict`.

        ``evidence``, ``seed``, ``origin`` and, from earlier versions, ``abstained`` may be missing.

        Raises:
            InputError: If the data is not a strategy.
        """
        try:
            strategy = cls(
                select=str(data["select"]),
                criteria=tuple(str(name) for name in data["criteria"]),
                assignment={_partition(p): tuple(map(str, names)) for p, names in data["assignment"].items()},
                weights=_read_table(data["weights"]),
                evidence=_read_table(data.get("evidence", {})),
                seed=int(data.get("seed", 0)),
                origin=dict(data.get("origin", {})),
                abstained=tuple(str(name) for name in data.get("abstained", ())),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"not a strategy, such as the strategy.json of a search: {quoted(error)}") from error
        strategy._check()
        return strategy

    def _check(self) -> None:
        known = set(self.criteria)
        if odd := set(self.abstained) - known:
            raise InputError(f"not a strategy: '{min(odd)}' abstained, but is not among the criteria {sorted(known)}")
        for partition, names in self.assignment.items():
            weights = self.weights.get(partition, {})
            if not names or not known.issuperset(names):
                raise InputError(f"not a strategy: partition {partition} must have criteria from {sorted(known)}")
            if set(weights) != known or min(weights.values()) < 0 or not math.isclose(sum(weights.values()), 1):
                raise InputError(
                    f"not a strategy: the weights of partition {partition} must be one non-negative number for each of "
                    f"{sorted(known)}, and sum to 1"
                )


def _voting(criteria: Sequence[str], abstained: Collection[str]) -> list[str]:
    """Return the criteria that did not abstain; all criteria if every one did."""
    return [name for name in criteria if name not in abstained] or list(criteria)


def _loss_weights(losses: Mapping[str, float]) -> dict[str, float]:
    mean = math.fsum(losses.values()) / len(losses)
    deviation = math.sqrt(math.fsum((loss - mean) ** 2 for loss in losses.values()) / len(losses))
    flat = deviation <= 1e-12 * max(abs(loss) for loss in losses.values())
    powers = {name: 1.0 if flat else math.exp((mean - loss) / deviation) for name, loss in losses.items()}
    total = math.fsum(powers.values())
    return {name: power / total for name, power in powers.items()}


def _partition(text: str) -> Partition:
    block, _, kind = text.partition(".")
    if not block.isdecimal() or kind not in KINDS:
        raise InputError(f"not a strategy: {quoted(text)} is not a partition: expected block.kind, such as 0.PA")
    return Partition(int(block), kind)


def _read_table(data: Mapping[str, Mapping[str, Any]]) -> dict[Partition, dict[str, float]]:
    return {_partition(p): {str(name): float(value) for name, value in row.items()} for p, row in data.items()}
