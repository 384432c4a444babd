"""Storing that a job of a study has failed. Does not import Ray."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prunepeft_ray.execution.work_meter import spent_before
from prunepeft_ray.jobs import Cost, TrainResult, Work
from prunepeft_ray.results import ResultsStore, RunContext


def record_failure(
    store: ResultsStore, checkpoints: Path, context: RunContext, work: Work, reason: str, started: datetime
) -> TrainResult:
    """Store that a job has finally failed; returns what the store has, which may be a result that came after all."""
    cost = Cost(redone_examples=spent_before(checkpoints, work.job.id))
    failed = TrainResult(0, 0, (), 0, {}, cost=cost, status="failed", reason=reason)
    store.commit(context, work, failed, started, datetime.now(UTC))
    found = store.find(work.job.id)
    assert found is not None
    return found
