"""The record of which search job a run's folder belongs to, and of its submission."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from prunepeft_ray.errors import InputError
from prunepeft_ray.parsing import read_small
from prunepeft_ray.results.run import SUBMISSION_FILE
from prunepeft_ray.service.gate import (
    Amount,
    JobId,
    Kind,
    Number,
    Pool,
    Priority,
    SpecText,
    Text,
    Trackers,
    read_json,
)
from prunepeft_ray.service.submission import Submission
from prunepeft_ray.storage import write_whole
from prunepeft_ray.storage.paths import is_file
from prunepeft_ray.text import error_line


@dataclass(frozen=True)
class RunOwner:
    """The content of ``submission.json`` in a run's folder; the first search job to write it owns the folder.

    Args:
        job: Id of the search job.
        name: Its name.
        owner: User who first submitted it.
        kind: ``search`` or ``study``.
        submitted_at: Time of the submission, in ISO format.
        spec: The spec as YAML, with the names of the packed files.
        priority: Priority on the cluster.
        cpus: Maximum number of CPUs its workers may use at once; None: no limit.
        gpus: Maximum number of GPUs they may use at once; None: no limit.
        workers: Number of workers of a search; None: the default.
        track: Trackers to log to.
        pool: Pool of finished training jobs, or ``off``; None: the cluster's default.
    """

    job: JobId
    name: Text
    owner: Text
    kind: Kind
    submitted_at: Text
    spec: SpecText
    priority: Priority = 0
    cpus: Amount | None = None
    gpus: Amount | None = None
    workers: Number | None = None
    track: Trackers = ()
    pool: Pool | None = None

    @classmethod
    def of(cls, submission: Submission, spec: str) -> RunOwner:
        """Create the record of a submission.

        Args:
            submission: The submission.
            spec: Its spec as YAML.
        """
        kept = {field.name: getattr(submission, field.name) for field in fields(cls) if field.name != "spec"}
        return cls(spec=spec, **kept)

    @classmethod
    def read(cls, folder: Path) -> RunOwner | None:
        """Read the record of a folder; None if there is none.

        Raises:
            InputError: If it is damaged.
            RunError: If the bucket cannot be reached.
        """
        file = folder / SUBMISSION_FILE
        if not is_file(file):
            return None
        try:
            return read_json(cls, read_small(file))
        except (OSError, ValueError) as error:
            raise InputError(f"{file} cannot be read: {error_line(error)}; delete it, then resume") from error

    def take(self, folder: Path) -> RunOwner:
        """Write the record unless there is one already; returns the one that counts.

        Raises:
            RunError: If it cannot be written.
        """
        text = json.dumps(asdict(self), indent=2) + "\n"
        if write_whole(folder / SUBMISSION_FILE, text.encode(), replace=False):
            return self
        return RunOwner.read(folder) or self
