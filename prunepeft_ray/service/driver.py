"""The driver of a search job, which runs on the cluster."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from prunepeft_ray.cluster.session import ray_cluster
from prunepeft_ray.cluster.sharing.terms import Terms
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.errors import InputError, PrunePEFTError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution import resume_search, resume_study, start_search, start_study
from prunepeft_ray.execution.study.progress import Watch
from prunepeft_ray.results import RunFolder
from prunepeft_ray.results.run import INPUTS, SPEC_FILE, SUBMISSION_FILE
from prunepeft_ray.service.package import read_spec
from prunepeft_ray.service.run_owner import RunOwner
from prunepeft_ray.service.status_reporter import Reporter
from prunepeft_ray.service.submission import Submission
from prunepeft_ray.storage import copy_files
from prunepeft_ray.storage.paths import (
    files_under,
    is_file,
    is_folder,
    is_local,
    names,
    open_path,
    read_bytes,
    remove_file,
)
from prunepeft_ray.study import StudySpec
from prunepeft_ray.tracking import tracking


def drive(submission: Submission, emit: Emit, watch: Watch) -> RunFolder:
    """Run an attempt at a search job, on the cluster that started this process, and print its state as it changes.

    Args:
        submission: The attempt; the package of a first attempt is in the working directory.
        emit: Callback that receives events.
        watch: Callback that receives the progress of a study.

    Raises:
        InputError: If anything is wrong; nothing has been run then.
        RunError: If the run failed; it can be resumed.
    """
    folder = open_path(submission.output)
    reporter = Reporter(folder / "results", emit, watch)
    try:
        _tell_versions(submission, emit)
        with tracking(folder, submission.track, reporter.emit) as tell, _joined(submission, folder) as here:
            return _run(submission, folder, here, tell, reporter.watch)
    except PrunePEFTError as error:
        reporter.fail(str(error))
        raise


def _tell_versions(submission: Submission, emit: Emit) -> None:
    if (ours := version("prunepeft-ray")) != submission.version:
        emit(Event("message", f"the cluster has prunepeft-ray {ours}; submitted with version {submission.version}"))


@contextmanager
def _joined(submission: Submission, folder: Path) -> Iterator[Path]:
    """Join the cluster with the packed files in place; yields the folder of this node that contains them."""
    from prunepeft_ray.cluster.shared_folder import check_reach

    with tempfile.TemporaryDirectory(prefix="prunepeft-") as temporary:
        here, packages = Path.cwd(), None
        if submission.resumes:
            here = Path(temporary)
            if not is_local(folder):
                copy_files(folder / INPUTS, here / INPUTS, files_under(folder / INPUTS))
                # workers import plugins relative to their working directory
                packages = {"working_dir": str(here)}
        with ray_cluster("auto", 1, packages):
            check_reach(folder)
            # packed files have relative names; a folder on the cluster outlives the working directory of this Ray job
            os.chdir(folder if submission.resumes and is_local(folder) and is_folder(folder) else here)
            yield here


def _run(submission: Submission, folder: Path, here: Path, emit: Emit, watch: Watch) -> RunFolder:
    terms = Terms(submission.job, submission.priority, submission.cpus, submission.gpus)
    if submission.resumes and is_file(folder / SPEC_FILE):
        # anyone who may submit to the cluster may run code on it
        if RunFolder.open(folder).is_study:
            return resume_study(folder, emit, watch, terms=terms, trust_plugins=True, pool=submission.pool)
        return resume_search(folder, emit, submission.workers, terms=terms, trust_plugins=True, pool=submission.pool)
    if submission.resumes:
        return _start(_recorded_spec(folder, here), submission, folder, emit, watch, terms)
    before = _existing_spec(folder)
    spec, taken = _claim_folder(submission, folder, here)
    try:
        return _start(spec, submission, folder, emit, watch, terms)
    except PrunePEFTError:
        # the run was rejected
        if _existing_spec(folder) == before:
            _remove_written(folder, taken)
        raise


def _start(
    spec: SearchSpec | StudySpec, submission: Submission, folder: Path, emit: Emit, watch: Watch, terms: Terms
) -> RunFolder:
    if isinstance(spec, StudySpec):
        return start_study(spec, folder, emit, watch, terms=terms, pool=submission.pool)
    return start_search(spec, folder, emit, submission.workers, terms=terms, pool=submission.pool)


def _existing_spec(folder: Path) -> bytes | None:
    return read_bytes(folder / SPEC_FILE) if is_file(folder / SPEC_FILE) else None


def _claim_folder(submission: Submission, folder: Path, package: Path) -> tuple[SearchSpec | StudySpec, list[str]]:
    """Claim a folder for this search job and store the packed files in it; returns the spec and the files written."""
    spec = read_spec(package / SPEC_FILE)
    text = (package / SPEC_FILE).read_text(encoding="utf-8")
    wanted = RunOwner.of(submission, text)
    if isinstance(spec, SearchSpec) or not is_file(folder / SPEC_FILE):
        RunFolder.check_free(folder)
    if RunOwner.read(folder) is None and names(folder / INPUTS):
        raise InputError(f"--output {folder} contains a folder {INPUTS} not created by a search job: choose another")
    owner = wanted.take(folder)
    extends = isinstance(spec, StudySpec) and owner.kind == "study" and is_file(folder / SPEC_FILE)
    if owner.job != submission.job and not extends:
        raise InputError(
            f"--output {folder} belongs to {owner.job} of {owner.owner}: resume it with 'prunepeft resume "
            f"{owner.job}', or choose another folder"
        )
    written = [SUBMISSION_FILE] if owner is wanted else []
    _keep_inputs(package, folder, written)
    return _locate_plugins(spec, package, folder), written


def _keep_inputs(package: Path, folder: Path, written: list[str]) -> None:
    """Copy the packed files to the run's folder, so that a resume needs nothing else; extends ``written``."""
    there, sent = set(files_under(folder / INPUTS)), files_under(package / INPUTS)
    for name in there.intersection(sent):
        if read_bytes(folder / INPUTS / name) != (package / INPUTS / name).read_bytes():
            _remove_written(folder, written)
            raise InputError(
                f"{folder / INPUTS / name} already exists and differs from the submitted file: "
                "rename the new file, or choose another folder with --output"
            )
    new = [name for name in sent if name not in there]
    written += [f"{INPUTS}/{name}" for name in new]
    copy_files(package / INPUTS, folder / INPUTS, new)


def _remove_written(folder: Path, written: list[str]) -> None:
    """Remove from a folder what was written for a run that was rejected, and nothing else."""
    for name in written:
        remove_file(folder / name)
    if not is_local(folder):
        return
    inside = {folder.joinpath(name).parent for name in written}
    for path in sorted({folder, folder / INPUTS, *inside}, key=lambda path: -len(path.parts)):
        # folders that contain anything else stay
        with suppress(OSError):
            path.rmdir()


def _recorded_spec(folder: Path, here: Path) -> SearchSpec | StudySpec:
    """The spec of a job whose driver was lost before the run began."""
    owner = RunOwner.read(folder)
    if owner is None:
        raise InputError(
            f"{folder} contains no run: expected a folder with {SPEC_FILE} that the cluster's head node sees"
        )
    (here / SPEC_FILE).write_text(owner.spec, encoding="utf-8")
    return _locate_plugins(read_spec(here / SPEC_FILE), here, folder)


def _locate_plugins(spec: SearchSpec | StudySpec, package: Path, folder: Path) -> SearchSpec | StudySpec:
    """Point plugins that were packed to where workers see them: the run's folder, or their working directory."""

    def locate(plugin: str) -> str:
        path = Path(plugin)
        if not path.is_relative_to(package.resolve()):
            return plugin
        inside = path.relative_to(package.resolve())
        return str(folder / inside) if is_local(folder) else str(inside)

    return spec.model_copy(update={"plugins": tuple(map(locate, spec.plugins))})
