"""Figures of speed and memory against named peers, measured in turns within one run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prunepeft_ray.results import hardware, versions


@dataclass(frozen=True)
class Figure:
    """A measurement against a peer.

    Args:
        what: What was measured.
        peer: What it is compared with.
        unit: Unit of both.
        theirs: Median of the peer.
        ours: Median of ours.
        ratio: Median of the ratios of ours to the peer's, pair by pair.
        target: What the ratio should be.
        at_most: Whether the target is the largest ratio that is good enough, not the smallest.
    """

    what: str
    peer: str
    unit: str
    theirs: float
    ours: float
    ratio: float
    target: float
    at_most: bool = True

    @property
    def is_met(self) -> bool:
        """Whether the target is met."""
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target


def compare(
    what: str,
    peer: str,
    unit: str,
    theirs: Sequence[float],
    ours: Sequence[float],
    target: float,
    at_most: bool = True,
) -> Figure:
    """Build a figure from measurements that took turns."""
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    return Figure(what, peer, unit, statistics.median(theirs), statistics.median(ours), ratio, target, at_most)


def in_turns(
    variants: Mapping[str, Callable[[], object]], clock: Callable[[], float], repeats: int
) -> dict[str, list[float]]:
    """Measure variants in turns, after a round that is not counted.

    Args:
        variants: What to run, by name.
        clock: Returns the time that passed, such as ``time.process_time``, which other processes hardly affect.
        repeats: Number of rounds.
    """
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(repeats + 1):
        for name, variant in variants.items():
            started = clock()
            variant()
            if number:
                found[name].append(clock() - started)
    return found


def show(figures: Sequence[Figure], file: Path | None = None) -> None:
    """Print figures as a table, and write them as JSON with the hardware.

    Args:
        figures: The figures.
        file: The JSON file; None for none.
    """
    table = Table("what", "peer", "peer's", "ours", "ratio", "target", "", title="ours against named peers")
    for one in figures:
        target = f"{'≤' if one.at_most else '≥'} {one.target:g}"
        numbers = (f"{value:.4g} {one.unit}" for value in (one.theirs, one.ours))
        table.add_row(one.what, one.peer, *numbers, f"{one.ratio:.3f}", target, "ok" if one.is_met else "MISS")
    Console().print(table)
    if file:
        found = {"hardware": hardware(), "versions": versions(), "figures": [asdict(one) for one in figures]}
        file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
