"""Search methods written as generators of work.

A generator yields a batch of work, is sent the results by job id, and continues, so that a search reads like the
algorithm it implements. :class:`GeneratorMethod` turns it into a :class:`~prunepeft_ray.jobs.Method`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from typing import Literal, TypeVar

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.errors import RunError
from prunepeft_ray.jobs import Decision, TrainJob, TrainResult, Work

R = TypeVar("R")

Steps = Generator[tuple[Work, ...], Mapping[str, TrainResult], R]
"""Yields batches of work that may run in parallel, is sent their results by job id, returns an ``R``."""


class GeneratorMethod:
    """An ask/tell method driven by a generator of work.

    Each job is handed out once: if the generator requests an equal job again, in the same or a later batch, it gets the
    result that was already reported. The generator continues as soon as all results of its batch have been reported.

    Args:
        steps: The generator; it is advanced to its first batch immediately.
        start: The architecture that the search starts from.
        keep_failures: Whether results of failed jobs are sent to the generator like any others.

    Attributes:
        planned: Maximum number of jobs that the method expects to request in total; None if unknown.
    """

    name = "generator"
    planned: int | None = None

    def __init__(self, steps: Steps[None], start: Architecture, keep_failures: bool = False) -> None:
        self.decisions: list[Decision] = []
        self.architecture = start
        self._steps = steps
        self._keep_failures = keep_failures
        self._results: dict[str, TrainResult] = {}
        self._batch: tuple[Work, ...] | None = None
        self._fresh: dict[str, Work] = {}
        self._running: dict[str, Work] = {}
        self._done = False
        self._advance()

    @property
    def done(self) -> bool:
        """Whether the search has ended and :meth:`best` is final."""
        return self._done

    def ask(self) -> tuple[Work, ...]:
        """Return the work that may run now, in parallel; each item once. Empty while waiting for results, or done."""
        handed, self._fresh = self._fresh, {}
        self._running |= handed
        return tuple(handed.values())

    def tell(self, job: TrainJob, result: TrainResult) -> None:
        """Report the result of a job that was handed out; the jobs of a batch may be reported in any order.

        Raises:
            ValueError: If the job was not handed out, or its result has already been reported.
            RunError: If the job failed and failures are not kept, in which case it may be reported again; or if its
                scores cannot be used.
        """
        if job.id not in self._running:
            reported = "its result has already been reported" if job.id in self._results else "it was not handed out"
            raise ValueError(f"job {job.id}: {reported}")
        if result.status == "failed" and not self._keep_failures:
            raise RunError(f"{self._running[job.id].label} (job {job.id}) failed: {result.reason}")
        del self._running[job.id]
        self._results[job.id] = result
        if not self._running:
            self._advance()

    def best(self) -> Architecture:
        """Return the smallest architecture reached so far; once the search is done, this is its answer."""
        return self.architecture

    def _advance(self) -> None:
        """Run the generator until it needs a result that has not been reported."""
        while not self._fresh and not self._done:
            try:
                self._batch = self._next_batch()
            except StopIteration:
                self._done = True
            else:
                new = [piece for piece in distinct(self._batch) if piece.job.id not in self._results]
                self._fresh = {piece.job.id: piece for piece in new}

    def _next_batch(self) -> tuple[Work, ...]:
        if self._batch is None:
            return next(self._steps)
        return self._steps.send({piece.job.id: self._results[piece.job.id] for piece in self._batch})


def distinct(work: Iterable[Work]) -> tuple[Work, ...]:
    """Drop all but the first of the work items with equal jobs."""
    first: dict[str, Work] = {}
    for piece in work:
        first.setdefault(piece.job.id, piece)
    return tuple(first.values())


def make_job(
    template: TrainJob,
    architecture: Architecture,
    *,
    seed: int,
    epochs: int | None = None,
    collect: Iterable[str] = (),
    train_size: int | None = None,
    holdout: float = 0.0,
    evaluate: Literal["none", "dev", "holdout"] = "dev",
    test: bool = False,
) -> TrainJob:
    """Make a job from a template; settings that cannot influence its result are reset to their defaults.

    Args:
        template: Model, task, metric, modules and recipe.
        architecture: The architecture to train.
        seed: The job's seed.
        epochs: Exact number of epochs; None for the full recipe, with early stopping.
        collect: Criteria to collect. The settings of ``threshold`` are only kept if it is one of them.
        train_size: Size of the training subset; None for the template's.
        holdout: Fraction of the subset that is held out from training.
        evaluate: What to evaluate on after every epoch.
        test: Whether to evaluate on the test split.
    """
    training = template.training
    if epochs is not None:
        training = training.model_copy(update={"epochs": epochs, "patience": None})
    collect = tuple(collect)
    threshold = template.threshold if "threshold" in collect else TrainJob.threshold
    quantile_counts = "threshold" in collect and threshold is None
    return replace(
        template,
        architecture=architecture,
        training=training,
        seed=seed,
        train_size=template.train_size if train_size is None else train_size,
        holdout=holdout,
        evaluate=evaluate,
        test=test,
        collect=collect,
        threshold=threshold,
        threshold_quantile=template.threshold_quantile if quantile_counts else TrainJob.threshold_quantile,
    )
