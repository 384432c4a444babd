"""The folder of a run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prunepeft_ray.config import SearchSpec, dump_yaml, load_spec, read_yaml
from prunepeft_ray.errors import InputError
from prunepeft_ray.parsing import parse_json, read_small
from prunepeft_ray.storage.files import write_whole
from prunepeft_ray.storage.paths import is_file, is_folder, is_local, names, read_bytes, remove_file
from prunepeft_ray.study import StudySpec, load_study
from prunepeft_ray.text import error_line

SPEC_FILE = "spec.yaml"
SEEN = ".seen-"
"""Prefix of the names of empty files with which nodes show that they can see the folder."""
SUBMISSION_FILE = "submission.json"
"""Records which search job of a cluster a folder belongs to."""
INPUTS = "inputs"
"""Folder of the files that were uploaded with a search job: task data, plugins."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run: its spec, results, checkpoints and answer.

    Args:
        path: The folder, on a disk or in a bucket.
    """

    path: Path

    @classmethod
    def create(cls, path: Path, spec: SearchSpec | StudySpec) -> RunFolder:
        """Create the folder of a new run and write its spec.

        Raises:
            InputError: If the folder is not empty, is not a folder, or cannot be created or written.
            RunError: If the disk is full.
        """
        cls.check_free(path)
        if is_local(path):
            with _reporting_unusable(path):
                path.mkdir(parents=True, exist_ok=True)
                if not os.access(path, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        # another search may have started there in the meantime
        if not write_whole(path / SPEC_FILE, dump_yaml(spec).encode(), replace=False):
            raise _taken(path)
        return cls(path)

    @staticmethod
    def check_free(path: Path) -> None:
        """Check that a new run can start at a path, without changing anything there.

        Raises:
            InputError: If there is a file, another run or anything else at the path.
        """
        with _reporting_unusable(path):
            if is_file(path) or (is_local(path) and path.exists() and not is_folder(path)):
                raise InputError(f"--output {path} is a file; choose a folder")
            found = names(path)
            if SPEC_FILE in found:
                raise _taken(path)
            if not all(_is_unfinished(name) or name in (SUBMISSION_FILE, INPUTS) for name in found):
                raise InputError(f"--output {path} is not empty and does not contain a run: choose another folder")

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of a run.

        Raises:
            InputError: If it does not contain a run.
        """
        if not is_file(path / SPEC_FILE):
            raise InputError(f"{path} does not contain a run: there is no {SPEC_FILE}")
        return cls(path)

    @cached_property
    def spec(self) -> SearchSpec:
        """The resolved spec that the run was started with.

        Raises:
            InputError: If the file is damaged, or the run is a study.
        """
        if self.is_study:
            raise InputError(f"{self.path} contains a study, not a search")
        return load_spec(self.path / SPEC_FILE)

    @cached_property
    def is_study(self) -> bool:
        """Whether the run is a study rather than a single search."""
        return "methods" in read_yaml(self.path / SPEC_FILE)

    @property
    def study(self) -> StudySpec:
        """The resolved spec of a study, including everything added since it was started.

        Raises:
            InputError: If the file is damaged, or the run is a search.
        """
        if not self.is_study:
            raise InputError(f"{self.path} contains a search, not a study")
        return load_study(self.path / SPEC_FILE)

    def extend(self, spec: StudySpec) -> None:
        """Replace the spec of a study by an extended one.

        Raises:
            RunError: If it cannot be written.
        """
        write_whole(self.path / SPEC_FILE, dump_yaml(spec).encode(), replace=True)

    @cached_property
    def run_id(self) -> str:
        """A digest of the spec as written, 12 hexadecimal digits; new settings of later versions do not change it."""
        return hashlib.sha256(read_bytes(self.path / SPEC_FILE)).hexdigest()[:12]

    @property
    def results(self) -> Path:
        """Folder of the results store."""
        return self.path / "results"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def attempts(self) -> Path:
        """Folder of the run's attempts, one file each."""
        return self.path / "attempts"

    @property
    def adapter(self) -> Path:
        """Folder of the final adapter."""
        return self.path / "adapter"

    @property
    def finished(self) -> bool:
        """Whether the run has its answer; ``architecture.json`` is written last."""
        return is_file(self.path / "architecture.json")

    def withdraw_answer(self) -> None:
        """Mark the run as unfinished again, because results behind its answer must be recomputed."""
        remove_file(self.path / "architecture.json")

    def write_json(self, name: str, data: Any) -> None:
        """Write a JSON file into the folder atomically.

        Raises:
            RunError: If it cannot be written.
        """
        write_whole(self.path / name, (json.dumps(data, indent=2) + "\n").encode(), replace=True)

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the folder; returns None if it does not exist.

        Raises:
            InputError: If the file is damaged.
        """
        file = self.path / name
        if not is_file(file):
            return None
        try:
            return parse_json(read_small(file))
        except ValueError as error:
            raise InputError(f"{file} is damaged: {error_line(error)}") from error


def _taken(path: Path) -> InputError:
    return InputError(
        f"--output {path} contains another run: resume it with 'prunepeft resume {path}', or choose another folder"
    )


@contextmanager
def _reporting_unusable(path: Path) -> Iterator[None]:
    """Report a folder that cannot be read or created in one clear line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"--output {path} cannot be used ({error_line(error)}); choose another folder") from error


def _is_unfinished(name: str) -> bool:
    """Whether a file is a leftover of a killed writer, or of the check that all nodes see the folder."""
    return name.startswith(SEEN) or (name.startswith(f".{SPEC_FILE}.") and name.endswith(".tmp"))
