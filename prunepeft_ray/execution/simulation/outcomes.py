"""Where the results of simulated jobs come from: a finished run, or predicted costs and metrics of any source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prunepeft_ray.errors import RunError
from prunepeft_ray.execution.simulation.costs import Costs
from prunepeft_ray.execution.simulation.footprint import Workload, footprint, planned_counts
from prunepeft_ray.jobs import Cost, TrainJob, TrainResult
from prunepeft_ray.methods import Problem
from prunepeft_ray.results import ResultsStore


@dataclass(frozen=True)
class StoredResults:
    """The results of a run's finished jobs, with the time that they took.

    Args:
        store: The run's results store.
    """

    store: ResultsStore

    def __call__(self, job: TrainJob) -> TrainResult:
        """Return the result of a job.

        Raises:
            RunError: If the job has not finished.
        """
        found = self.store.find(job.id)
        if found is None:
            raise RunError(f"job {job.id} has no result in {self.store.folder}")
        return found


MetricsOf = Callable[[TrainJob], Mapping[str, float]]
"""Returns the dev metrics of a job, such as from a table of all architectures of a small space; those on the test split
are taken to be the same."""


def made_up_metrics(job: TrainJob) -> dict[str, float]:
    """Return metrics that depend on nothing but the job's content, from 0 to 1."""
    return {job.metric: fraction(job.id), "loss": fraction(job.id, "loss")}


def fraction(*parts: object) -> float:
    """Return a number from 0 to 1 that depends on nothing but the parts."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56


@dataclass(frozen=True)
class PredictedResults:
    """Results with predicted costs.

    Scores are made up: they depend on nothing but job, criterion and slot.

    Args:
        problems: A problem for each model and task, which counts parameters.
        workloads: The sizes of each model and task.
        costs: Predicts durations.
        workers: Number of workers of a job.
        metrics: Metrics of jobs; default: made up.
    """

    problems: Mapping[tuple[str, str], Problem]
    workloads: Mapping[tuple[str, str], Workload]
    costs: Costs
    workers: int = 1
    metrics: MetricsOf = made_up_metrics

    def __call__(self, job: TrainJob) -> TrainResult:
        """Return the result of a job that is not stopped early."""
        key = job.model, job.task
        workload, parameters = self.workloads[key], self.problems[key].parameters(job.architecture)
        counts = planned_counts(job, workload, self.workers)
        work = footprint(
            job.architecture, job.collect, job.training.micro_batches or self.workers, parameters, counts, workload
        )
        seconds = self.costs.seconds(work)
        metrics = self.metrics(job)
        return TrainResult(
            parameters=parameters,
            head_parameters=0,
            epochs=(),
            best_epoch=job.training.epochs,
            metrics=metrics if job.evaluate != "none" else {},
            test=metrics if job.test else {},
            scores={name: {str(s): fraction(job.id, name, s) for s in job.architecture.slots} for name in job.collect},
            cost=Cost(
                train_examples=int(counts.train_examples),
                eval_examples=int(counts.eval_examples),
                steps=int(counts.steps),
                flops=work.train_flops,
                device_seconds=seconds * self.workers,
                wall_seconds=seconds,
            ),
        )
