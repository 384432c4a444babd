"""The warm-up: learning which criterion suits which partition (paper, Section 3.3).

A selector is a generator of work that returns a :class:`Strategy`; a new one takes one file and one line that registers
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prunepeft_ray.architecture import Architecture, Partition, Slot
from prunepeft_ray.config import WarmupConfig
from prunepeft_ray.criteria.base import CRITERIA
from prunepeft_ray.jobs import Decision, TrainJob, TrainResult, Work
from prunepeft_ray.pruning.scores import Compare, most_prunable, prunability, read_thetas, tied_for_last
from prunepeft_ray.pruning.steps import Steps
from prunepeft_ray.pruning.strategy import Strategy
from prunepeft_ray.registry import Registry
from prunepeft_ray.seeds import derive_seed


@dataclass(frozen=True)
class WarmUp:
    """The inputs of a selector, and its choices.

    Args:
        template: Model, task, metric, modules and recipe of every job.
        config: The settings of the warm-up.
        criteria: The criteria to choose from.
        partitions: The partition of every slot of the space.
        compare: How slots of different kinds are compared.
        seed: Seed of jobs and ties.
        decisions: The selector's decisions are appended here.
        origin: Model, task, space and settings, to be recorded in the strategy.
    """

    template: TrainJob
    config: WarmupConfig
    criteria: tuple[str, ...]
    partitions: Mapping[Slot, Partition]
    compare: Compare = "within-kind"
    seed: int = 0
    decisions: list[Decision] = field(default_factory=list)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def job_seed(self, turn: int) -> int:
        """Return the seed of a turn's jobs: the same for all criteria, so that equal jobs run only once."""
        return derive_seed(self.seed, "warmup", turn)

    def choose(
        self, criterion: str, slots: Iterable[Slot], count: int, turn: int, scored: Work, result: TrainResult
    ) -> list[Slot]:
        """Let a criterion choose the slots that it would remove, and record the decision.

        Slots that tie for the lowest score, among all slots or among those to choose from, are never chosen: breaking
        the tie would amount to a random vote. A criterion that gives every slot the same value thus abstains.

        Args:
            criterion: The criterion that chooses.
            slots: The slots to choose from.
            count: How many to choose.
            turn: 1-based number of the turn.
            scored: The work item that collected the scores.
            result: Its result.

        Returns:
            The chosen slots; fewer than ``count`` where the rest tie, none if the criterion abstains.

        Raises:
            RunError: If a score is missing or not finite.
        """
        judge = CRITERIA[criterion]
        whole = read_thetas(result, (criterion,), scored.job.architecture.slots, scored.label)[criterion]
        thetas = {slot: whole[slot] for slot in slots}
        scores = prunability(judge, thetas, self.compare)
        tied = tied_for_last(judge, whole, self.compare) | tied_for_last(judge, thetas, self.compare)
        candidates = {slot: score for slot, score in scores.items() if slot not in tied}
        chosen = most_prunable(candidates, count, derive_seed(self.seed, "warmup ties", turn))
        self.decisions.extend(
            Decision(
                step="warmup",
                index=turn,
                slot=str(slot),
                partition=str(self.partitions[slot]),
                criteria=(criterion,),
                probability=score,
                removed=slot in chosen,
                job_id=scored.job.id,
            )
            for slot, score in scores.items()
        )
        return chosen


@dataclass(frozen=True)
class Selector:
    """A way to choose criteria.

    Args:
        learn: Requests work, starting from an architecture, and returns the strategy that it learned.
        steps: Maximum number of jobs per criterion, the first of which all criteria share, from the settings and the
            number of partitions; None if it cannot be known beforehand.
    """

    learn: Callable[[WarmUp, Architecture], Steps[Strategy]]
    steps: Callable[[WarmupConfig, int], int] | None = None


SELECTORS: Registry[Selector] = Registry("warm-up selector")


def shared_work(jobs: Mapping[str, TrainJob], title: str) -> dict[str, Work]:
    """Turn one job per criterion into warm-up work; criteria with equal jobs share a work item and its label.

    Args:
        jobs: A job for every criterion.
        title: Beginning of the labels, such as ``"warm-up turn 2/3"``.
    """
    work: dict[str, Work] = {}
    for job in jobs.values():
        sharing = [name for name, other in jobs.items() if other.id == job.id]
        who = "all criteria" if len(sharing) == len(jobs) > 1 else ", ".join(sharing)
        work.setdefault(job.id, Work(job, "warmup", f"{title}: {who}"))
    return {name: work[job.id] for name, job in jobs.items()}
