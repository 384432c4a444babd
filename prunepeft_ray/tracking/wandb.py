"""Weights & Biases: a run per job and one per search, grouped by search."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from prunepeft_ray.errors import InputError
from prunepeft_ray.tracking.records import JOBS_RECEIVED, Job, Outcome, Search, Step
from prunepeft_ray.tracking.tracker import Known, Place

# no error reports to the makers of W&B, which reads this when imported
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

STATE_FILE = "tracking/wandb.json"
LONGEST_TAG, LONGEST_GROUP = 64, 128
"""Maximum numbers of characters that W&B accepts."""


def check() -> None:
    """Check that W&B is offline or logged in; otherwise it would prompt in the middle of a search.

    Raises:
        InputError: If it is neither, or disabled.
    """
    mode = _mode()
    if mode == "disabled":
        raise InputError("tracker 'wandb': WANDB_MODE=disabled turns it off: set it to online or offline")
    if mode == "online" and not wandb.login(prompt=False):
        raise InputError("tracker 'wandb': not logged in: run 'wandb login', or set WANDB_MODE=offline")


def _mode() -> Literal["online", "offline", "disabled"]:
    """The mode that the user chose; W&B itself reads it only once per process."""
    mode = os.environ.get("WANDB_MODE") or wandb.setup().settings.mode
    # dryrun is the older name
    if mode in ("offline", "dryrun"):
        return "offline"
    return "disabled" if mode == "disabled" else "online"


class Wandb:
    """Logs to the project ``WANDB_PROJECT`` or ``prunepeft``, with files below ``wandb/``.

    What was logged is recorded in ``tracking/wandb.json``, as there is no server to query offline, and synchronised
    files may have been deleted. Ids of W&B runs are derived from jobs and searches, so a job that is logged twice,
    because a process was killed before recording it, is still one W&B run.

    Args:
        place: The run.
    """

    def __init__(self, place: Place) -> None:
        self._folder, self._local, self._identity = place.folder, place.local, place.identity
        state = place.folder.read_json(STATE_FILE) or {"jobs": [], "steps": {}, "outcomes": {}}
        self._jobs: dict[str, None] = dict.fromkeys(state["jobs"])
        self._steps: dict[str, int] = state["steps"]
        self._outcomes: dict[str, int] = state["outcomes"]
        self._open: dict[str, Any] = {}

    @property
    def where(self) -> str:
        """Folder of the logs."""
        return str(self._local / "wandb")

    def begin(self, search: Search) -> Known:
        """Return what was logged of a search."""
        return Known(self._steps.get(search.key, 0), self._outcomes.get(search.key, 0))

    def has_job(self, job: Job) -> bool:
        """Whether a job was logged."""
        return job.id in self._jobs

    def log_job(self, job: Job, epochs: Sequence[Step]) -> None:
        """Log a job as a W&B run."""
        run = self._init(job.id, job.label, job.search, job.kind, job.config)
        for step in epochs:
            self._log(run, step)
        run.summary.update({**job.results, "status": job.status, "reason": job.reason})
        run.finish(exit_code=int(job.status == "failed"))
        self._jobs[job.id] = None
        self._keep()

    def log_step(self, search: Search, step: Step) -> None:
        """Add a step to the W&B run of a search, which stays open."""
        self._log(self._run(search), step)
        self._steps[search.key] = step.number
        self._keep()

    def log_outcome(self, search: Search, outcome: Outcome) -> None:
        """Write results to the summary and the architecture to the files of a search's W&B run, and finish it."""
        run = self._run(search)
        if outcome.architecture is not None:
            file = Path(run.dir) / "architecture.json"
            file.write_text(json.dumps(outcome.architecture, indent=2) + "\n", encoding="utf-8")
            run.save(str(file), base_path=run.dir, policy="now")
        run.summary.update({**outcome.results, "status": outcome.status, "reason": outcome.reason})
        run.finish(exit_code=int(outcome.status == "failed"))
        del self._open[search.key]
        self._outcomes[search.key] = outcome.step
        self._keep()

    def close(self) -> None:
        """Finish the W&B runs of unfinished searches as interrupted."""
        for run in self._open.values():
            run.finish(exit_code=1)

    def _run(self, search: Search) -> Any:
        if search.key not in self._open:
            run = self._init(search.key, search.name, search, "search", search.config)
            run.define_metric("search/*", step_metric=JOBS_RECEIVED)
            self._open[search.key] = run
        return self._open[search.key]

    def _init(self, key: str, name: str, search: Search, job_type: str, config: Mapping[str, Any]) -> Any:
        self._local.mkdir(parents=True, exist_ok=True)
        group = search.name if search.name == search.run else f"{search.run}: {search.name}"
        return wandb.init(
            mode=_mode(),
            project=os.environ.get("WANDB_PROJECT", "prunepeft"),
            id=f"{self._identity}-{key}",
            resume="allow",
            reinit="create_new",
            dir=str(self._local),
            name=name,
            group=group[-LONGEST_GROUP:],
            job_type=job_type,
            tags=[f"{tag}: {value}"[-LONGEST_TAG:] for tag, value in search.tags.items()],
            config=dict(config),
            settings=_quiet(),
        )

    def _log(self, run: Any, step: Step) -> None:
        run.log({**step.values, "_timestamp": step.at.timestamp()}, step=step.number)

    def _keep(self) -> None:
        state = {"jobs": list(self._jobs), "steps": self._steps, "outcomes": self._outcomes}
        self._folder.write_json(STATE_FILE, state)


def _quiet() -> Any:
    """Settings that log nothing of W&B's own: no output, code, packages, machine or environment."""
    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
