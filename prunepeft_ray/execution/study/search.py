"""A search of a study: a method on one model, task and seed, and the retraining of its choice. Does not import Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, TypeVar

from prunepeft_ray.architecture import Architecture, Slot
from prunepeft_ray.errors import PrunePEFTError, RunError
from prunepeft_ray.execution.study.records import SearchRecords
from prunepeft_ray.execution.study.setting import Setting
from prunepeft_ray.jobs import Decision, Method, TrainResult, Work
from prunepeft_ray.methods import METHODS
from prunepeft_ray.pruning.steps import distinct
from prunepeft_ray.results import Request, SearchOutcome, decision_files, request_key
from prunepeft_ray.text import error_line

T = TypeVar("T")

State = Literal["waiting", "searching", "retraining", "done", "failed"]


class StudySearch:
    """Drives one method: passes on the work it asks for and the results, retrains its choice, and tracks its cost.

    The method never sees a test metric and gets no more work than the study's limits allow; its choice is checked
    against the budget.

    Args:
        setting: The search's setting.
        store: The study's results store, or whatever stands in for it.
        before: When resuming: the results that the method has been told so far, in order.
    """

    def __init__(self, setting: Setting, store: SearchRecords, before: Sequence[Request] = ()) -> None:
        self.setting = setting
        self.cell = setting.cell
        self.problem = setting.problem
        self.reference = METHODS[self.cell.method.name].reference
        self.state: State = "waiting"
        self.reason = ""
        self.outstanding: dict[str, Work] = {}
        self.best_value: float | None = None
        self.told = 0
        self.examples = 0
        self._store = store
        self._before = before
        self._method: Method | None = None
        self._chosen: Architecture | None = None
        self._final_seeds: dict[str, int] = {}
        self._told_ids: set[str] = set()
        self._ended_before: SearchOutcome | None = None
        self._candidates: set[str] = set()
        self._evaluated: set[str] = set()
        self._evaluations = 0
        self._retrained: set[str] = set()
        self._cut_short = False
        self._decisions = 0
        self._decision_names: set[str] = set()
        self._asked_examples = 0
        self._device_seconds = 0.0
        self._method_seconds = 0.0

    @property
    def ended(self) -> bool:
        """Whether the search is done or has failed."""
        return self.state in ("done", "failed")

    @property
    def jobs_left(self) -> int | None:
        """Estimated number of jobs left; None if the method does not say."""
        finals = len(self.setting.study.seeds)
        if self.ended:
            return 0
        if self.state == "retraining":
            return len(self.outstanding)
        planned = getattr(self._method, "planned", None)
        return None if planned is None else max(len(self.outstanding), planned + finals - self.told)

    @property
    def has_progressed(self) -> bool:
        """Whether it has made progress in this attempt."""
        return self.told > len(self._before) or self._ended_before is None

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        if self.state == "failed":
            return f"{self.cell.title}: failed: {self.reason}"
        chosen = self._chosen
        assert chosen is not None
        space, parameters = self.problem.space, self.problem.parameters(chosen)
        best = "" if self.best_value is None else f", best dev {self.problem.template.metric} {self.best_value:.4f}"
        return (
            f"{self.cell.title}: {len(chosen)} modules of {len(space.supernet)} slots, {parameters:,} parameters{best}"
        )

    def begin(self) -> list[Work]:
        """Start the search, or resume it from the store; returns the work to run.

        Raises:
            RunError: If the store cannot be read or written.
        """
        ended = self._ended_before = self._store.find_search(self.setting.context.run_id)
        if ended is not None and ended.status == "done":
            results = [self._store.find(request.job_id) for request in self._before]
            told = [result for result in results if result is not None]
            # if a result is missing, the method must be asked again
            if len(told) == len(results):
                return self._replay(self._restore(ended, told))
        self.state = "searching"
        self._method = self._call_method(self.setting.build)
        return self._replay(self._ask())

    @property
    def depends_on(self) -> dict[str, list[str]]:
        """Names of the files that the outcome depends on, by table."""
        requests = [request_key(self.setting.context.run_id, position) for position in range(self.told)]
        searches = [self.setting.context.run_id] if self.ended else []
        jobs = list(self._told_ids)
        return {"jobs": jobs, "requests": requests, "decisions": list(self._decision_names), "searches": searches}

    def _restore(self, ended: SearchOutcome, told: Sequence[TrainResult]) -> list[Work]:
        """Continue after the choice without asking the method again, which may take long."""
        for request, result in zip(self._before, told, strict=True):
            self._count(request.job_id, request.kind, result)
        self._chosen = Architecture.from_json(ended.architecture)
        self._evaluations, self._method_seconds = ended.evaluations, ended.proposal_seconds
        return self._retrain()

    def tell(self, job_id: str, result: TrainResult) -> list[Work]:
        """Process the result of an outstanding job; returns the work to run next.

        Raises:
            RunError: If the store cannot be read or written.
        """
        return self._replay(self._tell(job_id, result))

    def recall(self, work: Work) -> list[Work]:
        """Process the result of an outstanding job that has meanwhile finished for another search.

        Raises:
            RunError: If the store cannot be read or written.
        """
        return [] if self.ended else self._replay([work])

    def _replay(self, new: list[Work]) -> list[Work]:
        """Tell the method results that are already in the store, in the same order as before."""
        positions = {request.job_id: request.position for request in self._before}
        fresh = {piece.job.id: piece for piece in new}
        while True:
            for job_id in sorted(fresh, key=lambda job_id: positions.get(job_id, len(positions))):
                if (result := self._store.find(job_id)) is not None:
                    del fresh[job_id]
                    fresh |= {piece.job.id: piece for piece in self._tell(job_id, result)}
                    break
            else:
                return [] if self.ended else list(fresh.values())

    def _tell(self, job_id: str, result: TrainResult) -> list[Work]:
        work = self.outstanding.pop(job_id)
        self._account(work, result)
        if self.ended:
            return []
        if self.state == "retraining":
            self._check_retrained(work, result)
            return self._settle()
        method = self._method
        assert method is not None
        # methods choose by dev metrics; test metrics are only for the report
        self._call_method(lambda: method.tell(work.job, replace(result, test={})))
        if not self.ended:
            self._keep_decisions(method)
        return self._ask()

    def _call_method(self, action: Callable[[], T]) -> T | None:
        """Call the method and measure the time; if it raises, only this search fails."""
        started = time.perf_counter()
        try:
            return action()
        except Exception as error:  # noqa: BLE001  methods may be third-party code
            self._fail(error)
            return None
        finally:
            self._method_seconds += time.perf_counter() - started

    def _account(self, work: Work, result: TrainResult) -> None:
        request = self._request(work)
        before = self._before[self.told].job_id if self.told < len(self._before) else request.job_id
        if request.job_id == before:
            self._store.commit_request(request)
        elif not self.ended:
            self._fail(
                RunError(
                    f"before the study stopped, job {before} was its result number {self.told + 1}; now it asks for "
                    "other jobs: restore the code that it began with, or give it another label to start over"
                )
            )
        if work.kind == "candidate":
            self._evaluated.add(work.job.architecture.id)
            self._evaluations = len(self._evaluated)
        if work.kind == "final":
            self._retrained.add(work.job.architecture.id)
        self._count(request.job_id, work.kind, result)

    def _request(self, work: Work) -> Request:
        return Request(
            **self._names,
            position=self.told,
            job_id=work.job.id,
            kind=work.kind,
            label=work.label,
            retrain_seed=self._final_seeds.get(work.job.id, self.cell.seed) if work.kind == "final" else None,
        )

    @cached_property
    def _names(self) -> dict[str, Any]:
        """The names that identify the search."""
        context = self.setting.context
        names = {name: getattr(context, name) for name in ("method", "task", "model", "seed")}
        return {"run_id": self.setting.study.id, **names}

    def _count(self, job_id: str, kind: str, result: TrainResult) -> None:
        self.told += 1
        self.examples += result.cost.train_examples
        self._told_ids.add(job_id)
        if kind != "final":
            self._device_seconds += result.cost.device_seconds
        fits = self.reference or result.parameters <= self.problem.budget
        if kind in ("candidate", "final") and fits and result.status == "done":
            value = self.problem.value(result)
            self.best_value = value if self.best_value is None else max(self.best_value, value)

    def _keep_decisions(self, method: Method) -> None:
        fresh = self._call_method(lambda: self._new_decisions(method)) or []
        self._decisions += len(fresh)
        if fresh:
            self._store.commit_decisions(self.setting.context, fresh)
            self._decision_names |= set(decision_files(self.setting.context, fresh))

    def _new_decisions(self, method: Method) -> list[Decision]:
        fresh = list(method.decisions[self._decisions :])
        for decision in fresh:
            Slot.parse(decision.slot)
        return fresh

    def _ask(self) -> list[Work]:
        if self.ended:
            return []
        method = self._method
        assert method is not None
        asked = () if self._has_reached_limits() else self._call_method(lambda: self._checked(method.ask()))
        new = self._within_limits(asked or ())
        self.outstanding |= {piece.job.id: piece for piece in new}
        return new if self.outstanding or self.ended else self._choose(method)

    def _checked(self, asked: Sequence[Work]) -> list[Work]:
        """Leave out jobs already running; reject those that cannot be trained, or whose cost would not be counted."""
        new = [piece for piece in distinct(asked) if piece.job.id not in self.outstanding]
        for piece in new:
            architecture = piece.job.architecture
            self.problem.check(architecture)
            if piece.kind == "final" and piece.job.id != self.problem.final_job(architecture, self.cell.seed).id:
                raise RunError(
                    f"the method asked for '{piece.label}' as a final retraining, but it is not the study's job: "
                    "expected problem.final_job(architecture, problem.seed)"
                )
        return new

    def _has_reached_limits(self) -> bool:
        limits = self.setting.study.limits
        epochs = self._asked_examples / self.setting.train_size
        too_many = limits.epochs is not None and epochs >= limits.epochs
        too_long = limits.seconds is not None and self._device_seconds >= limits.seconds
        return self._cut_short or too_many or too_long

    def _within_limits(self, asked: Sequence[Work]) -> list[Work]:
        """Accept work until the limits are reached, by its predicted cost, so that the outcome depends on no clock."""
        new: list[Work] = []
        for piece in asked:
            if piece.kind == "final":
                new.append(piece)
            elif not self._has_reached_limits() and not self._exceeds_evaluations(piece):
                size = min(piece.job.train_size or self.setting.train_size, self.setting.train_size)
                self._asked_examples += size * piece.job.training.epochs
                new.append(piece)
            else:
                self._cut_short = True
        return new

    def _exceeds_evaluations(self, piece: Work) -> bool:
        """Whether a candidate exceeds the evaluations; training one again for longer does not count as another."""
        if piece.kind == "candidate":
            self._candidates.add(piece.job.architecture.id)
        return len(self._candidates) > self.problem.evaluations

    def _choose(self, method: Method) -> list[Work]:
        self._chosen = self._call_method(lambda: self._choice(method))
        if self._chosen is None:
            return []
        self._store.commit_search(self._outcome("done"))
        return self._retrain()

    def _choice(self, method: Method) -> Architecture:
        """Return the architecture found by the method, if it can be trained and is within the budget."""
        if not method.done and not self._has_reached_limits():
            raise RunError("the method waits for results, but nothing is running")
        chosen = method.best()
        self.problem.check(chosen)
        if self._retrained - {chosen.id}:
            raise RunError("the method had a different architecture retrained than the one it chose")
        parameters = self.problem.parameters(chosen)
        if parameters > self.problem.budget and not self.reference:
            early = "" if method.done else "a limit of the study ended the search before it was within the budget: "
            raise RunError(f"{early}{parameters:,} parameters, but the budget is {self.problem.budget:,}")
        return chosen

    def _retrain(self) -> list[Work]:
        """Train the choice from scratch with the full recipe, once for every seed of the study."""
        self.state = "retraining"
        assert self._chosen is not None
        for seed in self.setting.study.seeds:
            work = Work(self.problem.final_job(self._chosen, seed), "final", f"retraining, seed {seed}")
            self._final_seeds[work.job.id] = seed
            if work.job.id not in self._told_ids:
                self.outstanding[work.job.id] = work
            elif (result := self._store.find(work.job.id)) is not None:
                self._check_retrained(work, result)
        finals = list(self.outstanding.values())
        self._settle()
        return finals

    def _check_retrained(self, work: Work, result: TrainResult) -> None:
        """Check that a retraining succeeded, and that the parameters counted by torch are within the budget."""
        if self.ended:
            return
        if result.status == "failed":
            self._fail(RunError(f"{work.label} failed: {result.reason}"))
        elif result.parameters > self.problem.budget and not self.reference:
            self._fail(
                RunError(f"retrained with {result.parameters:,} parameters: over the budget of {self.problem.budget:,}")
            )

    def _settle(self) -> list[Work]:
        """End the search once everything is retrained."""
        if not self.outstanding and not self.ended:
            self.state = "done"
        return []

    def _fail(self, error: Exception) -> list[Work]:
        """Fail this search only; jobs still running for it are stored and charged to it anyway."""
        text = str(error) if isinstance(error, PrunePEFTError) else f"{type(error).__name__}: {error_line(error)}"
        self.state, self.reason = "failed", text
        self._store.commit_search(self._outcome("failed"))
        return []

    def _outcome(self, status: Literal["done", "failed"]) -> SearchOutcome:
        chosen = self._chosen
        return SearchOutcome(
            **self._names,
            status=status,
            reason=self.reason,
            architecture_id="" if chosen is None else chosen.id,
            architecture="" if chosen is None else chosen.to_json(),
            parameters=0 if chosen is None else self.problem.parameters(chosen),
            budget=self.problem.budget,
            reference=self.reference,
            evaluations=self._evaluations,
            proposal_seconds=self._method_seconds,
        )
