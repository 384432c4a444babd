"""Warm-up by frequency, as in the paper: what does each criterion remove (Section 3.3)."""

from __future__ import annotations

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.pruning.steps import Steps, distinct, make_job
from prunepeft_ray.pruning.strategy import Strategy
from prunepeft_ray.pruning.warmup import SELECTORS, Selector, WarmUp, shared_work


def frequency(warmup: WarmUp, start: Architecture) -> Steps[Strategy]:
    """Count, in a chain of turns per criterion, from which partitions it removes slots.

    A turn trains what remains on the subset d from scratch and removes the criterion's most prunable slots.
    The current turns of all chains are asked for together. A chain ends early when it has no more slots
    than a turn removes, or when its criterion abstains; one that does so in its first turn gets no partition.

    Args:
        warmup: Template, settings and criteria.
        start: Where every chain starts, normally the supernet.
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
