"""The private temporary folder for Ray's sockets and logs on this machine. Does not import Ray."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from prunepeft_ray.errors import RunError
from prunepeft_ray.waiting import poll

PREFIX = "prunepeft-"
LOCK = "driver.lock"
LONGEST_BASE = 40 - len(f"/{PREFIX}12345678/32")
"""Ray adds up to 65 characters for its sockets, whose paths may have 107; a local cluster has one folder per node."""
STALE_SECONDS = 60.0
"""Age at which the folder of a dead process is removed: by then Ray's own processes have noticed too, and exited."""
REMOVE_SECONDS = 10.0
RETRY_SECONDS = 0.05


def make_ray_folder() -> Path:
    """Make a folder that no other user can enter, with a path short enough for Ray's sockets.

    It is created in the first suitable one of ``RAY_TMPDIR``, the temporary folder (``TMPDIR``) and ``/tmp``.

    Raises:
        RunError: If none of them is suitable.
    """
    bases = [os.environ.get("RAY_TMPDIR", ""), tempfile.gettempdir(), "/tmp"]
    for base in bases:
        if 0 < len(base) <= LONGEST_BASE:
            with suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    raise RunError(
        f"Ray needs a temporary folder with a path of at most {LONGEST_BASE} characters, and /tmp is not writable: "
        "set RAY_TMPDIR to such a folder"
    )


@contextmanager
def ray_folder() -> Iterator[Path]:
    """Provide a folder for one Ray node, removed afterwards; also removes those that killed processes left behind.

    Yields:
        A folder inside one of :func:`make_ray_folder`, since Ray makes the folder that it is given accessible to all.

    Raises:
        RunError: If it cannot be created.
    """
    folder = make_ray_folder()
    try:
        _remove_stale(folder.parent)
        # the lock is released with this process, however it dies
        with FileLock(folder / LOCK, mode=0o600, fallback_to_soft=False):
            yield folder / "0"
    finally:
        remove_ray_folder(folder)


def _remove_stale(base: Path) -> None:
    for folder in base.glob(f"{PREFIX}*"):
        # skips other users' folders, and those of clusters that outlive their driver, which have no lock
        with suppress(OSError):
            if _is_stale(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_stale(folder: Path) -> bool:
    status = folder.lstat()
    if status.st_uid != os.geteuid() or time.time() - status.st_mtime < STALE_SECONDS:
        return False
    # taking the lock would make the file
    if not (folder / LOCK).exists():
        return False
    with FileLock(folder / LOCK, timeout=0, fallback_to_soft=False):
        return True


def remove_ray_folder(folder: Path) -> None:
    """Remove a folder of :func:`make_ray_folder`; processes that are exiting may still write there for a moment."""

    def is_gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    poll(is_gone, REMOVE_SECONDS, RETRY_SECONDS)
