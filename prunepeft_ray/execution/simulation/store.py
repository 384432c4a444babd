"""What the searches of a simulated study read and write, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from prunepeft_ray.jobs import Decision, TrainResult
from prunepeft_ray.results import Request, RunContext, SearchOutcome


class SimulatedStore:
    """Keeps results in memory, and how long the chain of jobs is that each search has waited for.

    Attributes:
        results: Results of finished jobs.
        chains: For each finished job, the seconds of the longest chain of dependent jobs that ends with it.
        waited: For each search, by its key, the longest chain among the jobs whose results it has received.
        outcomes: Outcomes of searches, by key.
    """

    def __init__(self) -> None:
        self.results: dict[str, TrainResult] = {}
        self.chains: dict[str, float] = {}
        self.waited: dict[str, float] = {}
        self.outcomes: dict[str, SearchOutcome] = {}

    def finish(self, job_id: str, result: TrainResult, chain: float) -> None:
        """Keep the result of a job, and the seconds of the longest chain that ends with it."""
        self.results[job_id], self.chains[job_id] = result, chain

    def find(self, job_id: str) -> TrainResult | None:
        """Return the result of a finished job, or None if it has not finished."""
        return self.results.get(job_id)

    def find_search(self, key: str) -> SearchOutcome | None:
        """Return the outcome of a search, or None if it has not finished."""
        return self.outcomes.get(key)

    def commit_request(self, request: Request) -> bool:
        """Note that a search received a result, on which everything that it asks for from now on depends."""
        key = request.search
        self.waited[key] = max(self.waited.get(key, 0.0), self.chains[request.job_id])
        return True

    def commit_decisions(self, context: RunContext, decisions: Sequence[Decision]) -> None:
        """Drop decisions, which nothing reads."""

    def commit_search(self, outcome: SearchOutcome) -> None:
        """Keep the outcome of a search."""
        self.outcomes[outcome.search] = outcome
