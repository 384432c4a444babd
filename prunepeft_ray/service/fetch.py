"""Downloading a search job's results: directly if its folder is visible here, otherwise through the cluster."""

from __future__ import annotations

import io
import shlex
import signal
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from prunepeft_ray.cluster.job_server import JobServer
from prunepeft_ray.errors import InputError, PrunePEFTError, RunError, Terminated
from prunepeft_ray.results import RunFolder
from prunepeft_ray.results.run import SPEC_FILE
from prunepeft_ray.service.run_owner import RunOwner
from prunepeft_ray.service.search_job import SearchJob
from prunepeft_ray.service.unpacking import unpack
from prunepeft_ray.storage import copy_files
from prunepeft_ray.storage.paths import EXTRAS, files_under, is_file, is_local, names, open_path, read_bytes
from prunepeft_ray.waiting import wait_until

NOT_FETCHED = ("checkpoints", "attempts")
"""Folders that are only of use on the cluster."""
PACK_SECONDS = 600.0
POLL_SECONDS = 0.5
PACKED = "packed"
ARCHIVES = "prunepeft"
"""Folder of archives inside a node's log folder, from which the job server serves files."""


def is_here(job: SearchJob) -> bool:
    """Whether the folder of a search job is visible on this machine."""
    place = job.submission.output
    if not place.startswith(("/", *(f"{scheme}://" for scheme in EXTRAS))):
        # the location comes from the cluster: do not contact arbitrary servers
        return False
    # this machine may have a different folder of the same name
    with suppress(PrunePEFTError, OSError):
        return _belongs_to(RunOwner.read(open_path(place)), job)
    return False


def _belongs_to(owner: RunOwner | None, job: SearchJob) -> bool:
    """Whether a folder belongs to a search job; a study may have been started under another id and extended."""
    return owner is not None and (owner.job == job.id or owner.kind == job.submission.kind == "study")


def fetch(server: JobServer, job: SearchJob, target: Path, tell: Callable[[str], None]) -> None:
    """Copy a search job's results so far to a folder of this machine.

    Args:
        server: The cluster.
        job: The search job.
        target: The folder; new, or with an earlier copy of the same run.
        tell: Callback that receives progress messages.

    Raises:
        InputError: If the job has no results yet, or the folder contains something else.
        RunError: If the download fails.
    """
    if not is_local(target):
        raise InputError(f"--output {target}: expected a folder on this machine")
    _check_target(job, target)
    if is_here(job):
        source = open_path(job.submission.output)
        _check_begun(job, is_file(source / SPEC_FILE))
        if source.absolute() != target.absolute():
            copy_files(source, target, _wanted(source))
    else:
        tell(f"{job.submission.output} is not visible here: the cluster is packing it")
        unpack(_archive(server, job), target, _is_wanted)
    tell(f"fetched: {target}")


def _check_target(job: SearchJob, target: Path) -> None:
    found = names(target)
    if found and not _belongs_to(RunOwner.read(target), job):
        raise InputError(f"--output {target} contains something other than {job.id}: choose another folder")


def _check_begun(job: SearchJob, begun: bool) -> None:
    if not begun:
        raise InputError(f"{job.id} has no results yet: see 'prunepeft status {job.id}' for its progress")


def _wanted(folder: Path) -> list[str]:
    return [name for name in files_under(folder) if _is_wanted(name)]


def _is_wanted(name: str) -> bool:
    """Whether to copy a file; not hidden ones, such as files being written, nor compiled Python."""
    parts = name.split("/")
    is_hidden = any(part.startswith(".") and part != ".." for part in parts)
    return parts[0] not in NOT_FETCHED and not is_hidden and "__pycache__" not in parts and not name.endswith(".pyc")


def _archive(server: JobServer, job: SearchJob) -> bytes:
    """Have the cluster pack the folder, and download the archive."""
    helper = f"{job.id}.fetch-{time.time_ns()}"
    folder = shlex.quote(job.submission.output)
    server.submit(helper, f"exec python -P -m prunepeft_ray pack {folder} {helper}", {}, {})
    try:
        node = _wait_until_packed(server, job, helper)
        content = server.log_file(node, f"{ARCHIVES}/{helper}.tar.gz")
    finally:
        with suppress(PrunePEFTError):
            server.stop(helper)
    if content is None:
        raise RunError(f"the archive of {job.id} did not arrive: retry the download")
    return content


def _wait_until_packed(server: JobServer, job: SearchJob, helper: str) -> str:
    """Wait until the cluster has packed a folder; returns the id of the node that has the archive."""

    def packed() -> str | None:
        details = server.job(helper)
        if details is None:
            raise RunError(f"{job.id} was not packed, as the job that packs it is gone: retry, or copy its folder")
        if PACKED in server.log_end(details, 5).splitlines():
            return str(details.driver_node_id)
        if details.status.is_terminal():
            _check_begun(job, details.driver_exit_code != InputError.exit_code)
            why = (details.message or "").strip().splitlines() or ["no reason given"]
            raise RunError(f"{job.id} could not be packed on the cluster: {why[-1]}")
        return None

    late = f"{job.id} was not packed within {PACK_SECONDS:.0f} s: retry the download, or copy the folder yourself"
    return wait_until(packed, PACK_SECONDS, late, POLL_SECONDS)


def pack(folder: str, name: str, logs: Path) -> None:
    """Pack a run's folder into an archive that the job server serves, and delete the archive on SIGTERM.

    Args:
        folder: The run's folder.
        name: Name of the archive, without extension.
        logs: This node's log folder.

    Raises:
        InputError: If the folder contains no run.
    """
    source = open_path(folder)
    RunFolder.open(source)
    archive = logs / ARCHIVES / f"{name}.tar.gz"
    archive.parent.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, _end)
    try:
        with tarfile.open(archive, "w:gz") as tar:
            for file in _wanted(source):
                _add(tar, source / file, file)
        print(PACKED, flush=True)
        time.sleep(PACK_SECONDS)
    finally:
        archive.unlink(missing_ok=True)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _add(tar: tarfile.TarFile, file: Path, name: str) -> None:
    data = read_bytes(file)
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mtime = time.time()
    tar.addfile(member, io.BytesIO(data))
