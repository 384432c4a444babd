"""Search jobs made by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from prunepeft_ray.service.search_job import SearchJob
from prunepeft_ray.service.status import Status
from prunepeft_ray.service.submission import METADATA_KEY, Submission

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_submission(**changes: object) -> Submission:
    """A search that somebody has submitted."""
    values = {
        "job": "demo-3f2a",
        "attempt": 1,
        "name": "demo",
        "owner": "ann",
        "kind": "search",
        "output": "/shared/runs/demo",
        "resumes": False,
        "priority": 0,
        "cpus": None,
        "gpus": None,
        "workers": None,
        "track": ("tensorboard",),
        "version": "0.1.0",
        "submitted_at": NOW.isoformat(),
    }
    return Submission(**values | changes)


def a_job(job: str = "demo-3f2a", state: str = "running", status: Status | None = None, **changes: object) -> SearchJob:
    """A search job in a state."""
    values = {"started": NOW, "ended": None, "status": status or Status(state="running")} | changes
    return SearchJob(a_submission(job=job), state, **values)


def ray_details(submission: Submission | None, status: str = "RUNNING", minute: int = 0, **changes: object):
    """What Ray's job server says of a job; without a submission, of somebody else's."""
    start = int((NOW + timedelta(minutes=minute)).timestamp() * 1000)
    values = {
        "submission_id": submission.ray_id if submission else "raysubmit_x",
        "metadata": {METADATA_KEY: submission.to_json()} if submission else {"other": json.dumps({})},
        "status": SimpleNamespace(value=status),
        "start_time": start,
        "end_time": None if status in ("PENDING", "RUNNING") else start + 60_000,
        "driver_exit_code": None,
        "driver_node_id": "node",
        "message": "",
    }
    return SimpleNamespace(**values | changes)
