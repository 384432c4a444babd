"""The client: submit search jobs to a Ray cluster, watch, stop and resume them, and download their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

from prunepeft_ray.cluster.address import find_cluster
from prunepeft_ray.cluster.job_server import JobServer
from prunepeft_ray.cluster.sharing.terms import EQUAL_TERMS, Terms
from prunepeft_ray.errors import InputError, PrunePEFTError
from prunepeft_ray.service.attempts import STOP_SECONDS, Attempts, last_attempt, last_in, read_attempts, start
from prunepeft_ray.service.fetch import fetch, is_here
from prunepeft_ray.service.ids import clean_name, new_id, pick, user_name
from prunepeft_ray.service.package import packed
from prunepeft_ray.service.preflight import check_submission
from prunepeft_ray.service.run_owner import RunOwner
from prunepeft_ray.service.search_job import SearchJob, refusal
from prunepeft_ray.service.status import UNDECIDED, without_status
from prunepeft_ray.service.submission import Submission, now, place_on_cluster, pool_on_cluster
from prunepeft_ray.storage.paths import is_local, open_path
from prunepeft_ray.tracking import TRACKERS
from prunepeft_ray.waiting import poll, wait_until

CHECK_SECONDS = 300.0
DECISION_SECONDS = 10.0
"""How long to wait until it is known whether an accepted job runs or must wait."""
POLL_SECONDS = 0.5
READERS = 8

Tell = Callable[[str], None]


def _ignore(_line: str) -> None:
    pass


class Client:
    """Client of a cluster; it gets all its information from Ray's job server and the folders of the runs.

    Args:
        address: Address of the cluster's dashboard, ``http://HEAD:8265``; default: ``RAY_API_SERVER_ADDRESS``, or the
            cluster that ``prunepeft cluster up`` started on this machine. The cluster's token is read from
            ``RAY_AUTH_TOKEN`` or ``RAY_AUTH_TOKEN_PATH``.

    Raises:
        InputError: If the address is invalid, or the token is missing or wrong.
        RunError: If the cluster cannot be reached.
    """

    def __init__(self, address: str | None = None) -> None:
        where, token = find_cluster(address)
        self._server = JobServer(where, token)

    @property
    def address(self) -> str:
        """Address of the cluster's dashboard."""
        return self._server.address

    def submit(
        self,
        file: str | Path,
        *,
        output: str | Path | None = None,
        name: str | None = None,
        owner: str | None = None,
        settings: tuple[str, ...] | list[str] = (),
        workers: int | None = None,
        terms: Terms = EQUAL_TERMS,
        track: tuple[str, ...] | list[str] = (),
        pool: str | None = None,
        ship_code: bool = False,
        tell: Tell = _ignore,
    ) -> SearchJob:
        """Check a search or a study, submit it, and wait until the cluster has checked it too.

        Args:
            file: YAML file of a search or a study.
            output: The run's folder: an absolute path that all nodes share, or a URL such as ``s3://bucket/run``;
                default, only on the local cluster: ``runs/NAME``.
            name: Name for people; default: the name of the file.
            owner: Owner of the job; default: the current user.
            settings: Further settings of a search, such as ``"training.epochs=3"``.
            workers: Number of workers of a search; default: one per GPU, or 2 on CPUs.
            terms: Priority and limits.
            track: Trackers to log to.
            pool: Pool of finished training jobs: an absolute path that all nodes share, a URL, or ``"off"``; default:
                ``$PRUNEPEFT_POOL`` of the cluster's nodes, or none.
            ship_code: Send this machine's ``prunepeft_ray`` along, instead of using the version installed there.
            tell: Callback that receives progress messages.

        Returns:
            The job: waiting, running or over.

        Raises:
            InputError: If anything is wrong; nothing is left on the cluster then.
            RunError: If the cluster fails.
        """
        cleaned = clean_name(name or Path(file).stem)
        for tracker in track:
            # only its name is checked: it must be set up there, not here
            TRACKERS[tracker]
        with packed(Path(file), tuple(settings)) as package:
            if workers is not None and package.kind == "study":
                raise InputError("--workers is for searches; a study says execution.workers")
            check_submission(self._server, package.spec, workers, terms, tell)
            where = self._output(output, cleaned)
            job, attempt = self._study_in(where) if package.kind == "study" else (None, 1)
            submission = Submission(
                job=job or new_id(cleaned),
                attempt=attempt,
                name=cleaned,
                owner=owner or user_name(),
                kind=package.kind,
                output=where,
                resumes=False,
                priority=terms.priority,
                cpus=terms.cpus,
                gpus=terms.gpus,
                workers=workers,
                track=tuple(track),
                version=version("prunepeft-ray"),
                submitted_at=now(),
                pool=pool_on_cluster(pool, self._is_local),
            )
            start(self._server, submission, ship_code, package.folder)
        tell(f"the cluster checks {submission.job}: output, task, model and method")
        return self._accepted(submission)

    def resume(
        self,
        which: str | Path,
        *,
        workers: int | None = None,
        priority: int | None = None,
        cpus: float | None = None,
        gpus: float | None = None,
        pool: str | None = None,
        ship_code: bool = False,
        tell: Tell = _ignore,
    ) -> SearchJob:
        """Resume a stopped or failed search job from its folder; finished training jobs are not run again.

        Args:
            which: The search job's id; or, if the cluster no longer knows it, the run's folder as the cluster sees it.
            workers: Number of workers of a search; default: as before.
            priority: Priority on the cluster; default: as before.
            cpus: Maximum number of CPUs its workers may use at once; default: as before.
            gpus: Maximum number of GPUs they may use at once; default: as before.
            pool: Pool of finished training jobs, as in :meth:`submit`; default: as before.
            ship_code: Send this machine's ``prunepeft_ray`` along.
            tell: Callback that receives progress messages.

        Raises:
            InputError: If there is no such job, or it is running or finished.
            RunError: If the cluster fails.
        """
        attempts = read_attempts(self._server)
        before = self._submission_to_resume(attempts, str(which))
        if workers is not None and before.kind == "study":
            raise InputError("--workers is for searches; a study says execution.workers")
        asked = Terms(
            priority=before.priority if priority is None else priority,
            cpus=cpus or before.cpus,
            gpus=gpus or before.gpus,
        )
        submission = before.again(
            max((submission.attempt for submission, _ in attempts.get(before.job, ())), default=0) + 1,
            workers=workers or before.workers,
            priority=asked.priority,
            cpus=asked.cpus,
            gpus=asked.gpus,
            pool=pool_on_cluster(pool, self._is_local) or before.pool,
        )
        start(self._server, submission, ship_code)
        tell(f"the cluster checks {submission.job}: its folder, task, model and method")
        return self._accepted(submission)

    def jobs(self) -> list[SearchJob]:
        """All search jobs since the head node started, newest first, each with its last attempt."""
        with ThreadPoolExecutor(READERS) as pool:
            jobs = list(pool.map(partial(last_attempt, self._server), read_attempts(self._server).values()))
        return sorted(jobs, key=lambda job: job.started, reverse=True)

    def status(self, job: str) -> SearchJob:
        """Find a search job.

        Args:
            job: Its id, or an unambiguous prefix of it.

        Raises:
            InputError: If there is no such job.
        """
        attempts = read_attempts(self._server)
        return last_attempt(self._server, attempts[pick(attempts, job)])

    def logs(self, job: str) -> str:
        """Everything that the last attempt at a search job has printed so far.

        Raises:
            InputError: If there is no such job.
        """
        return without_status(self._server.log(self.status(job).submission.ray_id))

    def follow(self, job: str) -> Iterator[str]:
        """Yield the output of the last attempt at a search job, line by line from its beginning, until it ends.

        Raises:
            InputError: If there is no such job.
        """
        rest = ""
        for piece in self._server.follow(self.status(job).submission.ray_id):
            whole, newline, rest = (rest + piece).rpartition("\n")
            yield from without_status(whole + newline).splitlines()
        yield from without_status(rest).splitlines()

    def wait(self, job: str) -> SearchJob:
        """Wait until a search job has ended.

        Raises:
            InputError: If there is no such job.
        """
        while not (found := self.status(job)).over:
            time.sleep(POLL_SECONDS)
        return found

    def stop(self, job: str) -> SearchJob:
        """Ask a search job to save its checkpoints and stop, and wait until it has.

        Raises:
            InputError: If there is no such job.
            RunError: If it does not stop in time.
        """
        found = self.status(job)
        if found.over:
            return found
        self._server.stop(found.submission.ray_id)

        def ended() -> SearchJob | None:
            now = self.status(found.id)
            return now if now.over else None

        late = f"{found.id} was asked to stop but is still running: see 'prunepeft logs {found.id}'"
        return wait_until(ended, STOP_SECONDS + CHECK_SECONDS, late, POLL_SECONDS)

    def fetch(self, job: str, output: str | Path | None = None, tell: Tell = _ignore) -> Path:
        """Download a search job's results so far; its checkpoints stay where they are.

        Args:
            job: Its id.
            output: Folder to download to; default: ``runs/ID``. An earlier download of the same run is updated.
            tell: Callback that receives progress messages.

        Raises:
            InputError: If there is no such job, it has no results yet, or the folder contains something else.
            RunError: If the download fails.
        """
        found = self.status(job)
        target = open_path(output) if output else Path("runs") / found.id
        fetch(self._server, found, target, tell)
        return target

    def folder(self, job: str, tell: Tell = _ignore) -> Path:
        """A folder with a search job's results that can be read here: its own if visible, otherwise a download.

        Raises:
            InputError: If there is no such job, or it has no results yet.
            RunError: If the download fails.
        """
        found = self.status(job)
        return open_path(found.submission.output) if is_here(found) else self.fetch(found.id, tell=tell)

    def report(self, job: str, output: str | Path | None = None, tell: Tell = _ignore) -> Path:
        """Write a report on a search job's results so far.

        Args:
            job: Its id.
            output: File to write; default: ``report.html`` in the run's folder, or in its download here.
            tell: Callback that receives progress messages.

        Returns:
            Path of the report.

        Raises:
            InputError: If there is no such job, or it has no results yet.
            RunError: If the report cannot be written.
        """
        from prunepeft_ray.analysis import open_results
        from prunepeft_ray.report import write_report

        folder = self.folder(job, tell)
        page = open_path(output) if output else folder / "report.html"
        write_report([open_results(folder)], page)
        return page

    def _output(self, output: str | Path | None, name: str) -> str:
        if output is None:
            if not self._is_local:
                raise InputError(
                    "--output is missing: give the run's folder as the cluster sees it, an absolute path that all "
                    "nodes share or a bucket such as s3://bucket/run"
                )
            output = Path("runs") / name
        return place_on_cluster(output, self._is_local)

    @property
    def _is_local(self) -> bool:
        """Whether this is the local cluster, which sees the folders of this machine."""
        from prunepeft_ray.cluster.local.state import find_local_cluster

        local = find_local_cluster()
        return local is not None and local.address == self.address

    def _study_in(self, output: str) -> tuple[str | None, int]:
        """The study that a folder belongs to, and the number of the next attempt at it; studies may be extended."""
        attempts = read_attempts(self._server)
        job = last_in(attempts, output)
        with suppress(PrunePEFTError, OSError):
            owned = RunOwner.read(open_path(output))
            job = owned.job if owned and owned.kind == "study" else job
        if job is None or attempts.get(job, [(None, None)])[-1][0] is None:
            return job, 1
        last = last_attempt(self._server, attempts[job])
        if not last.over and last.submission.kind == "study":
            raise InputError(
                f"{job} is {last.state} in {output}: 'prunepeft stop {job}' first, or choose another folder"
            )
        return job, last.submission.attempt + 1

    def _submission_to_resume(self, attempts: Mapping[str, Attempts], which: str) -> Submission:
        """Return the submission that is to be resumed."""
        folder = open_path(which)
        if is_local(folder) and self._is_local:
            folder = folder.absolute()
        there = last_in(attempts, str(folder))
        if there is None and ("/" in which or (is_local(folder) and folder.is_dir())):
            return self._submission_from_folder(folder)
        found = last_attempt(self._server, attempts[there or pick(attempts, which)])
        if not found.over:
            raise InputError(f"{found.id} is {found.state}: there is nothing to resume; 'prunepeft logs {found.id} -f'")
        if found.state == "finished":
            raise InputError(f"{found.id} is finished: there is nothing to resume; 'prunepeft report {found.id}'")
        return found.submission

    def _submission_from_folder(self, folder: Path) -> Submission:
        """Return the submission of a search job that the cluster does not know, from its folder."""
        owned = None
        # the folder may be visible to the cluster only
        with suppress(PrunePEFTError, OSError):
            owned = RunOwner.read(folder)
        name = owned.name if owned else clean_name(folder.name)
        return Submission(
            job=owned.job if owned else new_id(name),
            attempt=0,
            name=name,
            owner=owned.owner if owned else user_name(),
            kind=owned.kind if owned else "search",
            output=self._output(folder, name),
            resumes=True,
            priority=owned.priority if owned else 0,
            cpus=owned.cpus if owned else None,
            gpus=owned.gpus if owned else None,
            workers=owned.workers if owned else None,
            track=owned.track if owned else (),
            version=version("prunepeft-ray"),
            submitted_at=now(),
            pool=owned.pool if owned else None,
        )

    def _accepted(self, submission: Submission) -> SearchJob:
        """Wait until the driver has checked everything; a rejected job is deleted from the cluster."""

        def checked() -> SearchJob | None:
            now = self.status(submission.job)
            return None if now.state in ("starting", "checking") else now

        def decided() -> SearchJob | None:
            now = self.status(submission.job)
            return now if now.over or now.status.waits_for != UNDECIDED else None

        late = (
            f"{submission.job} is still being checked after {CHECK_SECONDS:.0f} s: watch it with 'prunepeft status "
            f"{submission.job}'"
        )
        job = wait_until(checked, CHECK_SECONDS, late, POLL_SECONDS)
        if job.status.waits_for == UNDECIDED:
            job = poll(decided, DECISION_SECONDS, POLL_SECONDS) or job
        if job.state == "failed" and job.status.state == "checking":
            with suppress(PrunePEFTError):
                self._server.delete(submission.ray_id)
            raise refusal(job)
        return job
