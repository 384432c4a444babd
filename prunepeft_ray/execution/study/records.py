"""What a search of a study reads and writes while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prunepeft_ray.jobs import Decision, TrainResult
from prunepeft_ray.results import Request, RunContext, SearchOutcome


class SearchRecords(Protocol):
    """The part of :class:`~prunepeft_ray.results.ResultsStore` that a :class:`StudySearch` uses."""

    def find(self, job_id: str) -> TrainResult | None:
        """Return the result of a finished job, or None if it has not finished."""

    def find_search(self, key: str) -> SearchOutcome | None:
        """Return the outcome of a search, or None if it has not finished."""

    def commit_request(self, request: Request) -> bool:
        """Commit that a search requested a job and received its result; returns whether it is new."""

    def commit_decisions(self, context: RunContext, decisions: Sequence[Decision]) -> None:
        """Commit decisions of a method."""

    def commit_search(self, outcome: SearchOutcome) -> None:
        """Commit the outcome of a search, replacing an earlier one."""
