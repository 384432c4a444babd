"""Writing files whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunepeft_ray.errors import RunError


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


def write_whole(file: Path, write: Callable[[Path], None], *, replace: bool) -> bool:
    """Write a file under another name, then give it its name in one step.

    Args:
        file: The file; its folder is made if it is not there.
        write: Writes to the path that it is given.
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
            write(unfinished)
            with unfinished.open("rb") as stream:
                os.fsync(stream.fileno())
            if replace:
                unfinished.replace(file)
                return True
            try:
                os.link(unfinished, file)
            except FileExistsError:
                return False
            return True
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
