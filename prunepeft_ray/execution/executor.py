"""Running jobs in one process, or in a group of processes that all run the same method."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from prunepeft_ray.config import ExecutionConfig
from prunepeft_ray.errors import JobError, PrunePEFTError, RunError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.interruptions import BrokenGroupError, StoppedError
from prunepeft_ray.execution.job_checkpoint import JobKeeper
from prunepeft_ray.execution.watchdog import Watchdog
from prunepeft_ray.execution.workbench import Workbench
from prunepeft_ray.jobs import Decision, TrainJob, TrainResult, Work
from prunepeft_ray.results import JobPool, PooledJob, ResultsStore, RunContext
from prunepeft_ray.storage import write_whole
from prunepeft_ray.storage.paths import is_file, read_bytes, user_cache
from prunepeft_ray.training import (
    Group,
    PrefixCache,
    SoloGroup,
    Trained,
    arithmetic_of,
    is_out_of_memory,
    train,
)

PROGRESS_SECONDS = 0.5

T = TypeVar("T")


def outcome(job: TrainJob, result: TrainResult) -> str:
    """Summarise the result of a job in a few words."""
    if result.status == "failed":
        return f"failed: {result.reason}"
    measured = f", {job.evaluate} {job.metric} {result.metrics[job.metric]:.4f}" if job.metric in result.metrics else ""
    rate = result.cost.train_examples / max(result.cost.wall_seconds, 1e-9)
    seconds = result.cost.wall_seconds
    return f"{result.cost.train_examples:,} examples in {seconds:.1f} s ({rate:.0f}/s){measured}"


def _ignore(_event: Event) -> None:
    pass


def _never() -> bool:
    return False


def together(group: Group, action: Callable[[], T]) -> T:
    """Call an action in the first process of a group only; all processes return its result, or raise its error.

    Raises:
        PrunePEFTError: Raised by the action.
    """
    outcome: T | PrunePEFTError | None = None
    if group.rank == 0:
        try:
            outcome = action()
        except PrunePEFTError as error:
            outcome = error
    (found, *_) = group.gather(outcome)
    if isinstance(found, PrunePEFTError):
        raise found
    return found  # type: ignore[return-value]


@dataclass
class GroupExecutor:
    """Runs work in a group of processes; every process must make the same calls with the same work.

    Independent jobs are distributed over the processes; the remainder is trained by all processes together. A job whose
    result is in the store or in the pool is not run again, and an interrupted job resumes from its checkpoint.

    Args:
        workbench: Backbone and task.
        group: The processes; may be a single one.
        store: Results store to read from and commit to.
        context: The run, for the store.
        checkpoints: Folder for the checkpoints of running jobs and the weights of final ones.
        emit: Callback that receives events.
        settings: Execution settings, such as the time between checkpoints.
        stop_wanted: Whether the search has been asked to stop.
        watchdog: Touched at every step; None for no watchdog.
        keep_weights: Whether the weights of final jobs are kept for an adapter.
        pool: The pool of finished jobs; None for none.

    Attributes:
        told: Ids of all jobs whose results were returned, in order.
    """

    workbench: Workbench
    group: Group
    store: ResultsStore
    context: RunContext
    checkpoints: Path
    emit: Emit
    settings: ExecutionConfig = field(default_factory=ExecutionConfig)
    stop_wanted: Callable[[], bool] = _never
    watchdog: Watchdog | None = None
    keep_weights: bool = True
    pool: JobPool | None = None
    told: dict[str, None] = field(default_factory=dict, init=False)

    def run(self, work: Sequence[Work]) -> list[TrainResult]:
        """Run independent pieces of work; returns their results in the same order.

        Raises:
            RunError: If a result cannot be stored, or a job runs out of memory; raised in all processes.
            StoppedError: If the search has been asked to stop; checkpoints of running jobs have been saved.
            BrokenGroupError: If this process has left a job that the group trains together.
        """
        # only one process reads the store, so that all agree on what is missing
        found = together(self.group, lambda: [self._find(piece) for piece in work])
        done = {i: result for i, result in enumerate(found) if result is not None}
        missing = [i for i in range(len(work)) if i not in done]
        dealt = len(missing) - len(missing) % self.group.world
        for part in self.group.gather(self._run_mine(work, missing[self.group.rank : dealt : self.group.world])):
            done |= _succeeded(part)
        for i in missing[dealt:]:
            done |= _succeeded(self.group.gather({i: self._run(work[i], self.group)})[0])
        self.told |= dict.fromkeys(piece.job.id for piece in work)
        return [done[i] for i in range(len(work))]

    def weights(self, job: TrainJob) -> dict[str, Tensor]:
        """Return the weights of a final job that has finished.

        Raises:
            RunError: If their file is damaged.
        """
        file = self._weights_file(job)
        try:
            state: dict[str, Tensor] = load(read_bytes(file))
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"{file} is damaged ({error}); delete it, then 'prunepeft resume {self.checkpoints.parent}' to train "
                "it again"
            ) from error
        return state

    def _weights_file(self, job: TrainJob) -> Path:
        return self.checkpoints / f"{job.id}.safetensors"

    def _has_weights(self, work: Work) -> bool:
        return self.keep_weights and work.kind == "final"

    def _find(self, work: Work) -> TrainResult | None:
        lacks_weights = self._has_weights(work) and not is_file(self._weights_file(work.job))
        found = None if lacks_weights else self.store.find(work.job.id)
        return self._reuse(work) if found is None else found

    def _reuse(self, work: Work) -> TrainResult | None:
        """Commit the result of a job that another run has finished as this run's own, and return it."""
        job, has_weights = work.job, self._has_weights(work)
        if self.pool is None:
            return None
        keeper = self._keeper(work)
        pooled = self.pool.find(keeper.origin, has_weights)
        if pooled is None:
            return None
        self.emit(Event("start", work.label, work.kind, job.id))
        if has_weights:
            write_whole(self._weights_file(job), pooled.weights, replace=True)
        now = datetime.now(UTC)
        # this run may have trained on examples of the job before another one finished it
        cost = replace(pooled.result.cost, redone_examples=keeper.redone(0))
        result = replace(pooled.result, cost=cost)
        context = replace(self.context, versions=pooled.versions, hardware=pooled.hardware)
        self.store.commit(context, work, result, now, now, reused=True)
        keeper.discard()
        self.emit(Event("end", f"reused from the pool, cost as then: {outcome(job, result)}", work.kind, job.id))
        return result

    def _offer(self, work: Work, trained: Trained, keeper: JobKeeper) -> None:
        """Add a job to the pool if its bits are those that it would have anywhere with the same key."""
        if self.pool is None or trained.result.status != "done" or keeper.split > 1 or keeper.is_mixed:
            return
        # restarts and repeated work are accidents of this run
        cost = replace(trained.result.cost, redone_examples=0)
        result = replace(trained.result, restarts=0, cost=cost)
        weights = save(dict(trained.state)) if self._has_weights(work) else b""
        pooled = PooledJob(result, self.context.versions, self.context.hardware, weights)
        self.pool.add(keeper.origin, pooled)

    def _pool_key(self, job: TrainJob) -> str:
        """A digest of everything that decides the bits of a job's result here."""
        device, hardware = self.workbench.backbone.device, self.context.hardware
        # processors of different makers round differently even with the same instructions
        processor = hardware.get("cpu", "") if device.type == "cpu" else ""
        facts = [job.id, self.workbench.digest(job.training.max_length), arithmetic_of(device), processor]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _keeper(self, work: Work) -> JobKeeper:
        return JobKeeper(
            work.job.id,
            self.checkpoints,
            self.settings.checkpoint_seconds,
            self.stop_wanted,
            lambda text: self.emit(Event("message", f"{work.label}: {text}")),
            self._pool_key(work.job) if self.pool else "",
        )

    def _run_mine(self, work: Sequence[Work], mine: Sequence[int]) -> dict[int, TrainResult | PrunePEFTError]:
        """Run this process's part of the independent work, up to the first error."""
        done: dict[int, TrainResult | PrunePEFTError] = {}
        for i in mine:
            done[i] = self._run(work[i], SoloGroup())
            if isinstance(done[i], PrunePEFTError):
                break
        return done

    def _run(self, work: Work, group: Group) -> TrainResult | PrunePEFTError:
        """Run a job and store its result. Errors are returned, so that all processes can raise them together."""
        # only the first process may decide this: the others would not know
        if group.rank == 0 and self.stop_wanted():
            raise StoppedError
        started, workers = datetime.now(UTC), group.gather(f"{socket.gethostname()}:{os.getpid()}")
        keeper = self._keeper(work)
        try:
            trained = self._train(work, group, keeper)
            if group.rank == 0:
                trained = _with_redone(trained, keeper)
                if self._has_weights(work) and trained.result.status == "done":
                    self._save(work.job, trained)
                self.store.commit(self.context, work, trained.result, started, datetime.now(UTC), workers)
                self._offer(work, trained, keeper)
                keeper.discard()
                self.emit(Event("end", outcome(work.job, trained.result), work.kind, work.job.id))
        except PrunePEFTError as error:
            return error
        return trained.result

    def _save(self, job: TrainJob, trained: Trained) -> None:
        # safetensors' own writer does not raise an OSError on a full disk
        write_whole(self._weights_file(job), save(dict(trained.state)), replace=True)

    def _train(self, work: Work, group: Group, keeper: JobKeeper) -> Trained:
        """Train a job; if memory runs out, retry once with micro-batches of half the size."""
        split = together(group, lambda: keeper.split)
        try:
            return self._train_once(work, group, keeper, split)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # by now the error's traceback, which references tensors, is gone
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._split_up(work, group, keeper, split)
        return self._train(work, group, keeper)

    def _train_once(self, work: Work, group: Group, keeper: JobKeeper, split: int) -> Trained:
        job = work.job
        tell = self.emit if group.rank == 0 else _ignore
        tell(Event("start", work.label, work.kind, job.id))
        with self.watchdog.watching() if self.watchdog else nullcontext():
            try:
                trained = train(
                    job,
                    self.workbench.backbone,
                    self.workbench.task(job.training.max_length),
                    group,
                    self._on_step(work, tell),
                    keeper if group.rank == 0 else None,
                    split,
                    self._prefix_cache,
                )
            except BaseException as error:
                keeper.leave()
                if isinstance(error, StoppedError):
                    tell(Event("end", "stopped; checkpoint saved", work.kind, job.id))
                raise
        return trained

    @property
    def _prefix_cache(self) -> PrefixCache | None:
        limit = int(self.settings.frozen_cache_gb * 1e9)
        return PrefixCache(user_cache() / "prefix", limit) if limit else None

    def _split_up(self, work: Work, group: Group, keeper: JobKeeper, split: int) -> None:
        """Prepare the retry of a job that ran out of memory.

        Raises:
            JobError: If this was the retry already, or micro-batches of one example cannot be halved.
            BrokenGroupError: If the group trains this job together: the others are waiting in a collective operation
                that this process has left.
        """
        recipe = work.job.training
        examples = -(-recipe.batch_size // (split * (recipe.micro_batches or 1)))
        at_a_time = f"{examples} example{'s' if examples > 1 else ''} at a time"
        if split > 1 or examples < 2:
            keeper.forget_split()
            error = JobError(
                f"{work.label} (job {work.job.id}) ran out of memory with {at_a_time}; finished jobs "
                "are safe; resume on a device with more memory, or start a new search with a larger "
                "training.micro_batches or a smaller training.max_length"
            )
            raise error if group.world == 1 else BrokenGroupError(error)
        keeper.note_split()
        keeper.tell(f"out of memory with {at_a_time}; retrying once with half as many, in the same batches")
        if group.world > 1:
            raise BrokenGroupError

    def _on_step(self, work: Work, tell: Emit) -> Callable[[int, int], None]:
        due = time.monotonic()

        def on_step(done: int, total: int) -> None:
            nonlocal due
            if self.watchdog:
                self.watchdog.touch()
            if time.monotonic() >= due:
                due = time.monotonic() + PROGRESS_SECONDS
                tell(Event("progress", work.label, work.kind, work.job.id, done, total))

        return on_step


def _with_redone(trained: Trained, keeper: JobKeeper) -> Trained:
    """Add the examples of lost attempts to a result's cost."""
    cost = trained.result.cost
    cost = replace(cost, redone_examples=keeper.redone(cost.train_examples))
    return replace(trained, result=replace(trained.result, cost=cost))


def _succeeded(part: dict[int, TrainResult | PrunePEFTError]) -> dict[int, TrainResult]:
    """Return the results; raises the first error among them."""
    done = {}
    for i, result in sorted(part.items()):
        if isinstance(result, PrunePEFTError):
            raise result
        done[i] = result
    return done


def _judges(decision: Decision) -> str:
    return ", ".join(decision.criteria) or "no criterion distinguishes it"


def _abstentions(decisions: Sequence[Decision]) -> list[str]:
    warmup = [decision for decision in decisions if decision.step == "warmup"]
    asked = dict.fromkeys((d.index, name) for d in warmup for name in d.criteria)
    chose = {(d.index, name) for d in warmup if d.removed for name in d.criteria}
    silent = [pair for pair in asked if pair not in chose]
    return [f"{name} abstains in warm-up turn {turn}: it gives every slot the same value" for turn, name in silent]
