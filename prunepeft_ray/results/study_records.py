"""Records of a study's searches: what each search requested, and its outcome."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from prunepeft_ray.jobs import WorkKind


@dataclass(frozen=True)
class _SearchRecord:
    """A record that belongs to one search of a study.

    Args:
        run_id: Digest of the study's terms.
        method: The method's label in the study.
        task: Task, as the user named it.
        model: Backbone, as the user named it.
        seed: Seed of the search.
    """

    run_id: str
    method: str
    task: str
    model: str
    seed: int

    @property
    def search(self) -> str:
        """The key of the search within a store."""
        return search_key(self.run_id, self.method, self.task, self.model, self.seed)


@dataclass(frozen=True)
class Request(_SearchRecord):
    """A job that a search of a study requested, and whose result it received.

    A job that several searches request runs once, and each of them is charged for it.

    Args:
        position: 0-based position in the order in which the search received its results.
        job_id: Id of the job.
        kind: The job's role in the method.
        label: Short description of the job.
        retrain_seed: The study's seed of a final retraining; None for other jobs.
    """

    position: int
    job_id: str
    kind: WorkKind
    label: str
    retrain_seed: int | None = None

    @property
    def key(self) -> str:
        """The key of the request within a store."""
        return request_key(self.search, self.position)


@dataclass(frozen=True)
class SearchOutcome(_SearchRecord):
    """The outcome of a search of a study.

    Args:
        status: ``"done"``, or ``"failed"`` with a reason.
        reason: Why the search failed.
        architecture_id: Digest of the chosen architecture; empty if there is none.
        parameters: Number of its PEFT parameters, as counted by torch; 0 if there is none.
        budget: Maximum number of PEFT parameters that it may have.
        reference: Whether the method may exceed the budget.
        evaluations: Number of candidates that the method evaluated.
        proposal_seconds: Wall-clock seconds that the method itself took to decide.
        architecture: The chosen architecture as JSON; empty if there is none.
    """

    status: Literal["done", "failed"]
    reason: str
    architecture_id: str
    parameters: int
    budget: int
    reference: bool
    evaluations: int
    proposal_seconds: float
    architecture: str = ""


def search_key(run_id: str, method: str, task: str, model: str, seed: int) -> str:
    """Return the key of a search of a study: a digest of 16 hexadecimal digits."""
    text = json.dumps([run_id, method, task, model, seed])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def request_key(search: str, position: int) -> str:
    """Return the key of a search's request at a 0-based position."""
    return f"{search}-{position:05d}"
