"""Warm-up by frequency, as in the paper: how often each criterion removes slots of a partition (Section 3.3)."""

from __future__ import annotations

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.pruning.steps import Steps, distinct, make_job
from prunepeft_ray.pruning.strategy import Strategy
from prunepeft_ray.pruning.warmup import SELECTORS, Selector, WarmUp, shared_work


def frequency(warmup: WarmUp, start: Architecture) -> Steps[Strategy]:
    """Count from which partitions each criterion removes slots, in a chain of turns per criterion.

    A turn trains the remaining slots on the subset d from scratch and removes the criterion's most prunable ones.
    The current turns of all chains are requested together. A chain ends early when a turn would remove all of its
    slots, or when its criterion abstains; a criterion that abstains in its first turn is not assigned to any partition.

    Args:
        warmup: Template, settings and criteria.
        start: The architecture that every chain starts from, normally the supernet.
    """
    config = warmup.config
    counts = {partition: dict.fromkeys(warmup.criteria, 0) for partition in sorted(set(warmup.partitions.values()))}
    chains = dict.fromkeys(warmup.criteria, start)
    abstained: list[str] = []
    for turn in range(1, config.turns + 1):
        jobs = {
            criterion: make_job(
                warmup.template,
                architecture,
                seed=warmup.job_seed(turn),
                epochs=config.epochs,
                collect=warmup.criteria,
                train_size=config.train_size,
                evaluate="none",
            )
            for criterion, architecture in chains.items()
            if len(architecture) > config.remove
        }
        if not jobs:
            break
        work = shared_work(jobs, f"warm-up turn {turn}/{config.turns}")
        results = yield distinct(work.values())
        for criterion, piece in work.items():
            slots, result = piece.job.architecture.slots, results[piece.job.id]
            removed = warmup.choose(criterion, slots, config.remove, turn, piece, result)
            chains[criterion] = piece.job.architecture.without(removed)
            if not removed:
                del chains[criterion]
                abstained += [criterion] if turn == 1 else []
            for slot in removed:
                counts[warmup.partitions[slot]][criterion] += 1
    return Strategy.from_counts(counts, counts, warmup.criteria, warmup.seed, warmup.origin, abstained)


SELECTORS.register("frequency", Selector(frequency, steps=lambda config, _partitions: config.turns))
