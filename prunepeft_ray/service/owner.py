"""Which search job a run's folder belongs to, and what it was submitted with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from prunepeft_ray.errors import InputError
from prunepeft_ray.paths import is_file, one_line, read_bytes
from prunepeft_ray.results import write_whole
from prunepeft_ray.results.run import SUBMISSION_FILE
from prunepeft_ray.service.submission import Kind


@dataclass(frozen=True)
class RunOwner:
    """What stands in ``submission.json`` of a run's folder: the first who writes it has the folder.

    Args:
        job: Id of the search job.
        name: Its name.
        owner: Who submitted it first.
        kind: ``search`` or ``study``.
        submitted_at: When.
        spec: The spec as YAML, with the names of packed files in it.
    """

    job: str
    name: str
    owner: str
    kind: Kind
    submitted_at: str
    spec: str

    @classmethod
    def read(cls, folder: Path) -> RunOwner | None:
        """Read who has a folder; None if there is none.

        Raises:
            InputError: If it is damaged.
            RunError: If the bucket cannot be reached.
        """
        file = folder / SUBMISSION_FILE
        if not is_file(file):
            return None
        try:
            return cls(**json.loads(read_bytes(file).decode()))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{file} cannot be read: {one_line(error)}; delete it, then resume") from error

    def take(self, folder: Path) -> RunOwner:
        """Write it unless there is one already; returns the one that holds.

        Raises:
            RunError: If it cannot be written.
        """
        text = json.dumps(asdict(self), indent=2) + "\n"
        if write_whole(folder / SUBMISSION_FILE, text.encode(), replace=False):
            return self
        return RunOwner.read(folder) or self
