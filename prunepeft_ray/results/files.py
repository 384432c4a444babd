"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunepeft_ray.errors import RunError

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Turn a full disk and the like into one clear line.

    Raises:
        RunError: If an OSError is raised inside.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{file} cannot be written ({error.strerror or error}); all finished jobs are safe: free some space or "
            "mend the folder, then type 'prunepeft resume' with the run's folder"
        ) from error


def write_whole(file: Path, data: bytes, *, replace: bool) -> bool:
    """Write a file under another name, then give it its name in one step.

    Args:
        file: The file; its folder is made if it is not there.
        data: What to write.
        replace: Whether a file of that name is replaced; if not, the first writer wins.

    Returns:
        Whether the file is this writer's.

    Raises:
        RunError: If it cannot be written.
    """
    unfinished = file.parent / f".{file.name}.{uuid.uuid4().hex}.tmp"
    with writing(file):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as stream:
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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time work in a folder; a lock ends with its process, however that dies.

    On a file system without locks it does nothing.

    Raises:
        RunError: If the folder cannot be made or written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
