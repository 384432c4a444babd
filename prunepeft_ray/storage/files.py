"""Atomic writing, copying and locking of files."""

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
from prunepeft_ray.text import error_line, visible_line

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
"""Upper bound on the time that it takes to write a file."""
MAX_NAME, MAX_PART = 1024, 255
"""Maximum length of a file's relative name, and of each of its parts, in characters."""


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Report a full disk and similar failures in one clear line.

    Raises:
        RunError: If an OSError is raised in the context.
    """
    try:
        with nullcontext() if is_local(file) else as_os_error():
            yield
    except OSError as error:
        raise RunError(
            f"{file} cannot be written ({error_line(error)}); all finished jobs are safe: free some space or "
            "fix the folder, then run 'prunepeft resume' with the run's folder"
        ) from error


def write_whole(file: Path, data: bytes, *, replace: bool) -> bool:
    """Write a file atomically.

    A local file is written under a temporary name and then renamed or linked; an object in a bucket is uploaded in a
    single operation.

    Args:
        file: The file; its folder is created if necessary.
        data: The content.
        replace: Whether to replace an existing file; if not, the first writer wins.

    Returns:
        Whether the file now has this content; False if another writer came first.

    Raises:
        RunError: If the file cannot be written.
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
    """Remove temporary files of killed writers anywhere in a folder that this process owns.

    Files of the last :data:`WRITE_SECONDS` are kept, since a worker that briefly outlives its driver may still be
    writing them. In a bucket there are no such files, and nothing is done.

    Args:
        folder: The folder.
        clock: A file in the folder that has just been written, which gives the file system's time.
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
        # buckets have no folders, and creating one might create the bucket
        store_of(file).makedirs(key_of(file.parent), exist_ok=True)
    if replace:
        put_object(file, data)
        return True
    # not all stores reject existing objects; with those, only simultaneous writers go undetected
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
            # another writer is creating it right now
            time.sleep(0.1)
    raise OSError("other processes keep writing the same file")


def check_name(name: str) -> str:
    """Check that an external file name stays within the folder that the file is copied to.

    Args:
        name: The name, relative to the folder, as found in an archive or a bucket.

    Returns:
        The same name.

    Raises:
        RunError: If the name is an absolute path, leads out of the folder, or is not a valid file name.
    """
    parts = name.split("/")
    if (
        len(name) > MAX_NAME
        or any(part in ("", ".", "..") or len(part) > MAX_PART for part in parts)
        or visible_line(name) != name
    ):
        raise RunError(f"the file name '{name[:MAX_PART]}' does not stay within the folder: nothing was copied")
    return name


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy files between folders, on disks or in buckets, each atomically; existing files are replaced.

    Args:
        source: Folder to copy from.
        target: Folder to copy to.
        names: Names of the files, relative to both folders.

    Raises:
        RunError: If a file cannot be read or written, or a name leads out of the folder, in which case nothing is
            copied.
    """
    names = [check_name(name) for name in names]

    def copy(file: Path) -> None:
        write_whole(target / str(file)[len(str(source)) :].lstrip("/"), read_bytes(file), replace=True)

    map_files(copy, [source / name for name in names])


@contextmanager
def locked(folder: Path, *, busy: str | None = None) -> Iterator[None]:
    """Lock a folder for one process at a time; the lock is released when its process dies, however that happens.

    On a file system without locks, and in a bucket, this does nothing.

    Args:
        folder: The folder; created if necessary.
        busy: Error message if another process holds the lock; default: wait for it.

    Raises:
        InputError: If another process holds the lock, and ``busy`` is given.
        RunError: If the folder cannot be created or written.
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
