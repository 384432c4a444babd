"""What a study keeps of its searches: what each asked for, and how each ended."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from prunepeft_ray.jobs import WorkKind


@dataclass(frozen=True)
class _OfSearch:
    """What belongs to one search of a study.

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
        """The name of the search among all searches of a store."""
        return search_key(self.run_id, self.method, self.task, self.model, self.seed)


@dataclass(frozen=True)
class Request(_OfSearch):
    """A job that a search of a study asked for and was told.

    A job that several searches ask for runs once, and each of them is charged for it.

    Args:
        position: 0-based place in the order in which the search was told its results.
        job_id: The job.
        kind: Its part in the method.
        label: A few words for people.
        retrain_seed: For a final retraining, the study's seed under which it was done.
    """

    position: int
    job_id: str
    kind: WorkKind
    label: str
    retrain_seed: int | None = None

    @property
    def key(self) -> str:
        """The name of the request among all requests of a store."""
        return request_key(self.search, self.position)


@dataclass(frozen=True)
class SearchOutcome(_OfSearch):
    """How a search of a study ended.

    Args:
        status: ``"done"``, or ``"failed"`` with a reason.
        reason: Why it failed.
        architecture_id: Digest of the chosen architecture; empty if there is none.
        parameters: PEFT parameters of the chosen architecture, as torch counts them; 0 if there is none.
        budget: Most PEFT parameters that it may have.
        reference: Whether the method may end above the budget.
        evaluations: Candidates that the method evaluated.
        proposal_seconds: Wall-clock seconds that the method itself spent deciding.
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
    """Return the digest, 16 hexadecimal digits, that names a search of a study."""
    text = json.dumps([run_id, method, task, model, seed])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def request_key(search: str, position: int) -> str:
    """Return the name, among all requests of a store, of what a search was told at a 0-based position."""
    return f"{search}-{position:05d}"
