"""Warm-up by effectiveness (not in the paper): which criterion's removals hurt a partition least."""

from __future__ import annotations

import math
from collections.abc import Mapping

from prunepeft_ray.architecture import Architecture, Partition, Slot
from prunepeft_ray.errors import RunError
from prunepeft_ray.jobs import TrainJob, TrainResult, Work
from prunepeft_ray.pruning.steps import Steps, distinct, make_job
from prunepeft_ray.pruning.strategy import Strategy
from prunepeft_ray.pruning.warmup import SELECTORS, Selector, WarmUp, shared_work


def effectiveness(warmup: WarmUp, start: Architecture) -> Steps[Strategy]:
    """Remove each criterion's choice in one partition at a time, and measure the loss on a held-out part of d.

    One job scores all slots; the jobs of all partitions and criteria are then requested together. At most half of a
    partition is removed, but at least one slot. Criteria that choose the same slots share a job and tie. A criterion
    that abstains in a partition is not tried there, and is not assigned to it unless all criteria abstain.

    Args:
        warmup: Template, settings and criteria.
        start: The architecture that is scored and pruned, normally the supernet.
    """
    scoring = Work(_job(warmup, start, turn=1, collect=warmup.criteria), "warmup", "warm-up: scoring")
    results = yield (scoring,)
    work = {
        partition: _trials(warmup, start, partition, slots, scoring, results[scoring.job.id])
        for partition, slots in _members(warmup, start).items()
    }
    results = yield distinct(piece for pieces in work.values() for piece in pieces.values())
    losses = {
        partition: {criterion: _loss(piece, results) for criterion, piece in pieces.items()}
        for partition, pieces in work.items()
    }
    everywhere = warmup.partitions.values()
    abstained = [name for name in warmup.criteria if not any(name in pieces for pieces in work.values())]
    return Strategy.from_losses(losses, everywhere, warmup.criteria, warmup.seed, warmup.origin, abstained)


def _job(warmup: WarmUp, architecture: Architecture, turn: int, collect: tuple[str, ...] = ()) -> TrainJob:
    return make_job(
        warmup.template,
        architecture,
        seed=warmup.job_seed(turn),
        epochs=warmup.config.epochs,
        collect=collect,
        train_size=warmup.config.train_size,
        holdout=warmup.config.holdout,
        evaluate="holdout",
    )


def _members(warmup: WarmUp, architecture: Architecture) -> dict[Partition, list[Slot]]:
    members: dict[Partition, list[Slot]] = {}
    for slot in architecture.slots:
        members.setdefault(warmup.partitions[slot], []).append(slot)
    return dict(sorted(members.items()))


def _trials(
    warmup: WarmUp,
    start: Architecture,
    partition: Partition,
    slots: list[Slot],
    scoring: Work,
    scores: TrainResult,
) -> dict[str, Work]:
    """One work item per criterion that does not abstain: the architecture without its choice in this partition."""
    count = min(warmup.config.remove, max(1, len(slots) // 2))
    chosen = {criterion: warmup.choose(criterion, slots, count, 1, scoring, scores) for criterion in warmup.criteria}
    jobs = {criterion: _job(warmup, start.without(removed), turn=2) for criterion, removed in chosen.items() if removed}
    return shared_work(jobs, f"warm-up {partition}")


def _loss(piece: Work, results: Mapping[str, TrainResult]) -> float:
    loss = results[piece.job.id].metrics.get("loss", math.nan)
    if not math.isfinite(loss):
        raise RunError(
            f"{piece.label}: the training diverged: the held-out loss is {loss}; try lower training.learning_rates"
        )
    return loss


SELECTORS.register("effectiveness", Selector(effectiveness, steps=lambda _config, partitions: 1 + partitions))
