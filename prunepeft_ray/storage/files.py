"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.storage.paths import (
    EXTRAS,
    as_os_error,
    error_code,
    is_file,
    is_local,
    key_of,
    map_files,
    put_object,
    read_bytes,
    store_of,
)
from prunepeft_ray.text import one_line, visible_line

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
_NO_LOCKS = (*_NO_LINKS, errno.ENOLCK, errno.EINVAL)
_CONFLICT, _EXISTS, _NO_CONDITIONS = (
    "ConditionalRequestConflict",
    ("PreconditionFailed", "412"),
    ("NotImplemented", "501"),
)
_CREATE_TRIES = 5
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
WRITE_SECONDS = 10.0
"""No file takes longer to write."""
LONGEST_NAME, LONGEST_PART = 1024, 255


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Turn a full disk and the like into one clear line.

    Raises:
        RunError: If an OSError is raised inside.
    """
    try:
        with nullcontext() if is_local(file) else as_os_error():
            yield
    except OSError as error:
        raise RunError(
            f"{file} cannot be written ({one_line(error)}); all finished jobs are safe: free some space or "
            "mend the folder, then type 'prunepeft resume' with the run's folder"
        ) from error


def write_whole(file: Path, data: bytes, *, replace: bool) -> bool:
    """Write a file whole or not at all.

    A local file is written under another name and then given its name in one step; an object in a bucket is put in
    one step.

    Args:
        file: The file; its folder is made if it is not there.
        data: What goes in.
        replace: Whether a file of that name is replaced; if not, the first writer wins.

    Returns:
        Whether the file is this writer's.

    Raises:
        RunError: If it cannot be written.
    """
    with writing(file):
        return _write_local(file, data, replace) if is_local(file) else _put(file, data, replace)


def _write_local(file: Path, data: bytes, replace: bool) -> bool:
    unfinished = file.parent / f".{file.name}.{uuid.uuid4().hex}.tmp"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            unfinished.replace(file)
            return True
        try:
            os.link(unfinished, file)
        except FileExistsError:
            return False
        except OSError as error:
            # a file system without hard links
            if error.errno not in _NO_LINKS:
                raise
            if file.exists():
                return False
            unfinished.replace(file)
        return True
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path, clock: Path) -> None:
    """Remove what killed writers have left anywhere in a folder of which this process is the owner.

    Files of the last :data:`WRITE_SECONDS` stay: a worker that outlives its driver for a moment may be writing them. In
    a bucket nothing is left, and nothing done.

    Args:
        folder: The folder.
        clock: A file in it that has just been written, for the time of its file system.
    """
    if not is_local(folder):
        return
    with suppress(OSError):
        latest = clock.stat().st_mtime - WRITE_SECONDS
        for file in folder.rglob(".*.tmp"):
            if _UNFINISHED.fullmatch(file.name) and file.stat().st_mtime <= latest:
                file.unlink(missing_ok=True)


def _put(file: Path, data: bytes, replace: bool) -> bool:
    if cast(Any, file).protocol not in EXTRAS:
        # in a bucket there are no folders, and asking for one may make the bucket
        store_of(file).makedirs(key_of(file.parent), exist_ok=True)
    if replace:
        put_object(file, data)
        return True
    # not all stores refuse what is there; with those, only writers at the same moment are not told apart
    return not is_file(file) and _create(file, data)


def _create(file: Path, data: bytes) -> bool:
    for _ in range(_CREATE_TRIES):
        try:
            put_object(file, data, mode="create")
            return True
        except FileExistsError:
            return False
        except (OSError, NotImplementedError) as error:
            code = error_code(error)
            if code in _EXISTS:
                return False
            if code in _NO_CONDITIONS or isinstance(error, NotImplementedError):
                put_object(file, data)
                return True
            if code != _CONFLICT:
                raise
            # somebody else is creating it just now
            time.sleep(0.1)
    raise OSError("others keep writing the same file")


def check_name(name: str) -> str:
    """Make sure that the name of a file that comes from outside stays within the folder that it is put into.

    Args:
        name: The name, relative to the folder, as an archive or a bucket has it.

    Returns:
        The same name.

    Raises:
        RunError: If it is none: a whole path, one that leads up, or one that no file can have.
    """
    parts = name.split("/")
    if (
        len(name) > LONGEST_NAME
        or any(part in ("", ".", "..") or len(part) > LONGEST_PART for part in parts)
        or visible_line(name) != name
    ):
        raise RunError(f"a file is named '{name[:LONGEST_PART]}' there, which is no name within the folder: not copied")
    return name


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy files between folders, on disks or in buckets, each whole or not at all; what is there is replaced.

    Args:
        source: Folder to copy from.
        target: Folder to copy to.
        names: Names of the files, relative to both.

    Raises:
        RunError: If one cannot be read or written, or its name leads out of the folder; nothing is copied then.
    """
    names = [check_name(name) for name in names]

    def copy(file: Path) -> None:
        write_whole(target / str(file)[len(str(source)) :].lstrip("/"), read_bytes(file), replace=True)

    map_files(copy, [source / name for name in names])


@contextmanager
def locked(folder: Path, *, busy: str | None = None) -> Iterator[None]:
    """Let one process at a time work in a folder; a lock ends with its process, however that dies.

    On a file system without locks, and in a bucket, it does nothing.

    Args:
        folder: The folder; made if it is not there.
        busy: What to say where another process works there; without, it is waited for.

    Raises:
        InputError: If another process works there, and it is not waited for.
        RunError: If the folder cannot be made or written.
    """
    if not is_local(folder):
        yield
        return
    lock = FileLock(folder / ".lock", timeout=0 if busy else -1, fallback_to_soft=False)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(str(busy)) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    try:
        yield
    finally:
        lock.release()
