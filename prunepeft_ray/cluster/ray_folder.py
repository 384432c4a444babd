"""Where Ray keeps its sockets and logs on this machine: in a folder of the user's own, which goes. No Ray here."""

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
"""Ray adds up to 65 characters for its sockets, whose names may have 107; a cluster of ours has a folder per node."""
STALE_SECONDS = 60.0
"""Age at which a folder whose process has gone is removed: Ray's own processes have then noticed that, too."""
REMOVE_SECONDS = 10.0
RETRY_SECONDS = 0.05


def make_ray_folder() -> Path:
    """Make a folder that nobody else can enter, with a name that is short enough for Ray's sockets.

    It lies in ``RAY_TMPDIR``, in the temporary folder (``TMPDIR``) or in ``/tmp``, the first of them that will do.

    Raises:
        RunError: If none of them will do.
    """
    bases = [os.environ.get("RAY_TMPDIR", ""), tempfile.gettempdir(), "/tmp"]
    for base in bases:
        if 0 < len(base) <= LONGEST_BASE:
            with suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    raise RunError(
        f"Ray needs a temporary folder whose name has at most {LONGEST_BASE} characters, and /tmp cannot be written: "
        "set RAY_TMPDIR to such a folder"
    )


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A folder for one node of Ray for the length of a call; removes also those that killed processes have left.

    Yields:
        A folder within one of :func:`make_ray_folder`: Ray opens the folder that it is given to everybody.

    Raises:
        RunError: If it cannot be made.
    """
    folder = make_ray_folder()
    try:
        _remove_stale(folder.parent)
        # the lock ends with this process, however that dies
        with FileLock(folder / LOCK, mode=0o600, fallback_to_soft=False):
            yield folder / "0"
    finally:
        remove_ray_folder(folder)


def _remove_stale(base: Path) -> None:
    for folder in base.glob(f"{PREFIX}*"):
        # others' folders, and those of clusters that outlive their driver, which have no lock
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
    """Remove a folder of :func:`make_ray_folder`, in which processes that are ending may still write for a moment."""

    def is_gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    poll(is_gone, REMOVE_SECONDS, RETRY_SECONDS)
