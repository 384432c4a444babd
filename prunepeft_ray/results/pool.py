"""The pool of finished jobs, shared by many runs: one file per job, named after everything that decides its result."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter

from prunepeft_ray.errors import InputError, PrunePEFTError
from prunepeft_ray.jobs import TrainResult
from prunepeft_ray.parsing import parse_json, read_small
from prunepeft_ray.storage import write_whole
from prunepeft_ray.storage.paths import is_folder, is_local, open_path, read_bytes, user_cache
from prunepeft_ray.text import error_line

OFF = "off"
"""Names no pool, on the command line and in ``$PRUNEPEFT_POOL``."""
VARIABLE = "PRUNEPEFT_POOL"

Tell = Callable[[str], None]


def find_pool(named: str | None, on_cluster: bool, tell: Tell) -> str | None:
    """Find the pool that a run uses.

    Args:
        named: Folder or URL, or ``"off"``; default: ``$PRUNEPEFT_POOL``, or else the user's cache. On a cluster that
            others may use too, where every node has its own cache, the default is none.
        on_cluster: Whether the run uses such a cluster.
        tell: Callback that receives a line if the user's cache cannot be used.

    Returns:
        Its folder or URL; None for no pool.

    Raises:
        InputError: If the pool was named and cannot be used.
        RunError: If its bucket cannot be reached.
    """
    named = named or os.environ.get(VARIABLE)
    if named == OFF or (on_cluster and not named):
        return None
    folder = open_path(named or user_cache() / "jobs")
    if not is_local(folder):
        # raises an error if there is no such bucket
        is_folder(folder)
        return str(folder)
    folder = folder.expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)
    except OSError as error:
        why = f"cannot be used ({error_line(error)})"
        if named:
            raise InputError(f"--pool {folder} {why}; choose another folder, or --no-pool") from error
        tell(f"the pool of finished jobs {folder} {why}; continuing without it")
        return None


@dataclass(frozen=True)
class PooledJob:
    """A finished job in a pool.

    Args:
        result: Its result, with what it cost when it ran.
        versions: Versions that it ran with.
        hardware: Hardware that it ran on.
        weights: Weights of its modules as a safetensors file; empty if they were not kept.
    """

    result: TrainResult
    versions: Mapping[str, str]
    hardware: Mapping[str, str]
    weights: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class _Entry:
    """The content of a file, after a line with its digest; ``weights`` is the digest of another file, or empty."""

    result: TrainResult
    versions: dict[str, str]
    hardware: dict[str, str]
    weights: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]


class JobPool:
    """A folder of finished jobs that any number of processes read and write at once.

    Files are written atomically, and the first writer wins. Nothing here ends a run: a damaged file counts as missing
    and is replaced, and a pool that cannot be read or written is left alone from then on.

    Args:
        folder: The folder, on a disk or in a bucket; created on the first write.
        tell: Callback that receives a line when a file, or the pool, cannot be used.
    """

    def __init__(self, folder: Path, tell: Tell) -> None:
        self.folder = folder
        self._tell = tell
        self._usable = True

    def find(self, key: str, with_weights: bool = False) -> PooledJob | None:
        """Return a finished job, or None if there is none.

        Args:
            key: Digest of everything that decides the job's result.
            with_weights: Whether only a job whose weights were kept will do.
        """
        try:
            return self._read(key, with_weights) if self._usable else None
        except FileNotFoundError:
            pass
        except ValueError as error:
            self._tell(
                f"{self._file(key)} is damaged ({error_line(error)}): ignored, and replaced once the job is done"
            )
        except (OSError, PrunePEFTError) as error:
            self._give_up(error)
        return None

    def add(self, key: str, job: PooledJob) -> None:
        """Add a finished job, unless it is there already."""
        if not self._usable:
            return
        weights = hashlib.sha256(job.weights).hexdigest() if job.weights else ""
        entry = _Entry(job.result, dict(job.versions), dict(job.hardware), weights)
        # numpy's numbers are stored as plain ones
        body = json.dumps(asdict(entry), default=float).encode()
        data = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
        try:
            if weights:
                # named by its digest, so that writers of different weights do not overwrite each other's
                write_whole(self._file(weights), job.weights, replace=True)
            if not write_whole(self._file(key), data, replace=False) and not self._has(key, bool(weights)):
                write_whole(self._file(key), data, replace=True)
        except (OSError, PrunePEFTError) as error:
            self._give_up(error)

    def _has(self, key: str, with_weights: bool) -> bool:
        try:
            self._read(key, with_weights)
        except (FileNotFoundError, ValueError):
            return False
        return True

    def _read(self, key: str, with_weights: bool) -> PooledJob:
        digest, _, body = read_small(self._file(key)).partition(b"\n")
        _check(body, digest.decode())
        entry = _reader().validate_python(parse_json(body))
        if not with_weights:
            return PooledJob(entry.result, entry.versions, entry.hardware)
        if not entry.weights:
            raise FileNotFoundError(f"{self._file(key)}: its weights were not kept")
        weights = read_bytes(self._file(entry.weights))
        _check(weights, entry.weights)
        return PooledJob(entry.result, entry.versions, entry.hardware, weights)

    def _file(self, key: str) -> Path:
        # folders of hundreds of thousands of files are slow on many file systems
        return self.folder / key[:2] / key

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        why = error_line(error.__cause__ or error)
        self._tell(f"the pool of finished jobs {self.folder} cannot be used ({why}); continuing without it")


@functools.cache
def _reader() -> TypeAdapter[_Entry]:
    return TypeAdapter(_Entry)


def _check(data: bytes, digest: str) -> None:
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError("its content does not match its digest")
