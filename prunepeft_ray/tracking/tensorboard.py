"""TensorBoard: a log folder per search, and one inside it per job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from prunepeft_ray.text import plain_name
from prunepeft_ray.tracking.records import JOBS_RECEIVED, Job, Outcome, Search, Step
from prunepeft_ray.tracking.tracker import Known, Place

OUTCOME = "result/parameters"
"""A value that every outcome has."""


class TensorBoard:
    """Writes event files below ``tensorboard/``, which also record what was logged.

    The folder of a job is written elsewhere and then moved there as a whole. The steps of a search continue in a new
    file, which purges steps that a killed process wrote incompletely.

    Args:
        place: The run.
    """

    def __init__(self, place: Place) -> None:
        self._root = place.local / "tensorboard"
        self._unfinished = place.local / "tracking" / "tensorboard" / "unfinished"
        self._writers: dict[str, SummaryWriter] = {}
        self._known: dict[str, Known] = {}

    @property
    def where(self) -> str:
        """The command that shows the logs."""
        return f"tensorboard --logdir {self._root}"

    def begin(self, search: Search) -> Known:
        """Find out what is logged of a search."""
        self._known[search.key] = _known(self._root / _folder(search))
        return self._known[search.key]

    def has_job(self, job: Job) -> bool:
        """Whether the folder of a job exists."""
        return self._job_folder(job).is_dir()

    def log_job(self, job: Job, epochs: Sequence[Step]) -> None:
        """Write the folder of a job: epochs as scalars, results as scalars at the last epoch and as hyperparameters."""
        rmtree(self._unfinished, ignore_errors=True)
        with SummaryWriter(str(self._unfinished)) as writer:
            for step in epochs:
                _add_step(writer, step)
            last, at = epochs[-1].number if epochs else 0, job.finished.timestamp()
            results = {f"result/{name}": value for name, value in job.results.items()}
            for name, value in results.items():
                writer.add_scalar(name, value, last, at)
            config = {name: value for name, value in job.config.items() if value is not None}
            summaries = hparams(config | {"status": job.status}, results)  # type: ignore[no-untyped-call]
            for summary in summaries:
                writer.file_writer.add_summary(summary, last, at)
            writer.add_text("job", f"{job.kind}: {job.label}: {job.status} {job.reason}".strip(), last, at)
        target = self._job_folder(job)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._unfinished.rename(target)

    def log_step(self, search: Search, step: Step) -> None:
        """Add a step to a search."""
        writer = self._writer(search)
        if step.number == 1:
            writer.add_text("settings", _as_code(search.config), 0, step.at.timestamp())
        _add_step(writer, step)
        writer.flush()

    def log_outcome(self, search: Search, outcome: Outcome) -> None:
        """Add the results as scalars, and the architecture as text."""
        writer, at = self._writer(search), outcome.at.timestamp()
        writer.add_text("status", f"{outcome.status} {outcome.reason}".strip(), outcome.step, at)
        if outcome.architecture is not None:
            writer.add_text("architecture", _as_code(outcome.architecture), outcome.step, at)
        # the value that begin() looks for is written last
        for name in sorted(outcome.results, key=lambda name: f"result/{name}" == OUTCOME):
            writer.add_scalar(f"result/{name}", outcome.results[name], outcome.step, at)
        writer.flush()

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, search: Search) -> SummaryWriter:
        if search.key not in self._writers:
            purge = self._known[search.key].steps + 1
            self._writers[search.key] = SummaryWriter(str(self._root / _folder(search)), purge_step=purge)
        return self._writers[search.key]

    def _job_folder(self, job: Job) -> Path:
        return self._root / _folder(job.search) / f"{plain_name(job.label)}-{plain_name(job.id[:8])}"


def _known(folder: Path) -> Known:
    """Read how many steps of a search are logged; the subfolders of its jobs are not read."""
    if not any(folder.glob("*tfevents*")):
        return Known()
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
    last = {tag: events.Scalars(tag)[-1].step for tag in events.Tags()[SCALARS]}
    return Known(last.get(JOBS_RECEIVED, 0), last.get(OUTCOME, 0))


def _add_step(writer: SummaryWriter, step: Step) -> None:
    for name, value in step.values.items():
        writer.add_scalar(name, value, step.number, step.at.timestamp())


def _folder(search: Search) -> str:
    """Return the name of a search's folder, unique within a study."""
    name = plain_name(search.name)
    return name if search.name == search.run else f"{name}-{plain_name(search.key[:6])}"


def _as_code(data: Mapping[str, object]) -> str:
    """Format plain data as a Markdown code block, which TensorBoard renders."""
    return "\n".join(f"    {line}" for line in json.dumps(data, indent=2, ensure_ascii=False).splitlines())
