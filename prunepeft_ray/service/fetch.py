"""Bringing home what a search job has left: from where it lies if that can be seen, else through the cluster."""

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

LEFT_THERE = ("checkpoints", "attempts")
"""What is of use on the cluster only."""
PACK_SECONDS = 600.0
POLL_SECONDS = 0.5
PACKED = "packed"
ARCHIVES = "prunepeft"
"""Folder of archives in a node's folder of logs, from where the job server hands out files."""


def is_here(job: SearchJob) -> bool:
    """Whether the folder of a search job can be seen from this machine."""
    place = job.submission.output
    if not place.startswith(("/", *(f"{scheme}://" for scheme in EXTRAS))):
        # the cluster says where to look; the world's servers are not asked
        return False
    # another folder of that name may be here
    with suppress(PrunePEFTError, OSError):
        return _is_of(RunOwner.read(open_path(place)), job)
    return False


def _is_of(owner: RunOwner | None, job: SearchJob) -> bool:
    """Whether a folder is a job's; a study's may have been begun under another id, and added to."""
    return owner is not None and (owner.job == job.id or owner.kind == job.submission.kind == "study")


def fetch(server: JobServer, job: SearchJob, target: Path, tell: Callable[[str], None]) -> None:
    """Copy what a search job has so far into a folder of this machine.

    Args:
        server: The cluster.
        job: The search job.
        target: The folder; new, or with an earlier copy of the same.
        tell: Callback that receives progress messages.

    Raises:
        InputError: If the job has nothing yet, or the folder holds something else.
        RunError: If it cannot be brought.
    """
    if not is_local(target):
        raise InputError(f"--output {target}: expected a folder of this machine")
    _check_target(job, target)
    if is_here(job):
        source = open_path(job.submission.output)
        _check_begun(job, is_file(source / SPEC_FILE))
        if source.absolute() != target.absolute():
            copy_files(source, target, _wanted(source))
    else:
        tell(f"{job.submission.output} cannot be seen from here: the cluster packs it")
        unpack(_archive(server, job), target, _is_wanted)
    tell(f"fetched: {target}")


def _check_target(job: SearchJob, target: Path) -> None:
    found = names(target)
    if found and not _is_of(RunOwner.read(target), job):
        raise InputError(f"--output {target} is not empty, and what is there is not {job.id}: choose another folder")


def _check_begun(job: SearchJob, begun: bool) -> None:
    if not begun:
        raise InputError(f"{job.id} has no results yet: 'prunepeft status {job.id}' tells how far it is")


def _wanted(folder: Path) -> list[str]:
    return [name for name in files_under(folder) if _is_wanted(name)]


def _is_wanted(name: str) -> bool:
    """Whether to bring a file: not what is hidden, such as files that are being written, and no compiled Python."""
    parts = name.split("/")
    is_hidden = any(part.startswith(".") and part != ".." for part in parts)
    return parts[0] not in LEFT_THERE and not is_hidden and "__pycache__" not in parts and not name.endswith(".pyc")


def _archive(server: JobServer, job: SearchJob) -> bytes:
    """Have the cluster pack the folder, and take the archive from it."""
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
        raise RunError(f"the archive of {job.id} did not arrive: try again")
    return content


def _wait_until_packed(server: JobServer, job: SearchJob, helper: str) -> str:
    """Wait until the cluster has packed a folder; returns the id of the node where the archive lies."""
    until = time.monotonic() + PACK_SECONDS
    while time.monotonic() < until:
        details = server.job(helper)
        if details is None:
            break
        if PACKED in server.log_end(details, 5).splitlines():
            return str(details.driver_node_id)
        if details.status.is_terminal():
            _check_begun(job, details.driver_exit_code != InputError.exit_code)
            why = (details.message or "").strip().splitlines() or ["no reason is given"]
            raise RunError(f"{job.id} cannot be packed on the cluster: {why[-1]}")
        time.sleep(POLL_SECONDS)
    raise RunError(f"{job.id} was not packed within {PACK_SECONDS:.0f} s: try again, or copy its folder")


def pack(folder: str, name: str, logs: Path) -> None:
    """Pack a run's folder into an archive where the job server hands out files, and take it away when asked to end.

    Args:
        folder: The run's folder.
        name: Name of the archive.
        logs: This node's folder of logs.

    Raises:
        InputError: If there is no run.
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
