"""A study without models, training and files: a store in memory, a trainer that makes results up, toy methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from toy_jobs import digest

from prunepeft_ray.architecture import Architecture, Module, ModuleCost, Slot, Space
from prunepeft_ray.execution.study.dispatcher import StudyRun, run_here
from prunepeft_ray.execution.study.search import StudySearch
from prunepeft_ray.execution.study.setting import Setting
from prunepeft_ray.jobs import Cost, Decision, TrainJob, TrainResult, Work
from prunepeft_ray.methods import MethodInfo, Problem
from prunepeft_ray.pruning import GeneratorMethod, PrunePEFT
from prunepeft_ray.results import Request, RunContext, SearchOutcome, search_key
from prunepeft_ray.study import Cell, StudySpec

LAYERS, COST, BUDGET, TRAIN_SIZE = 4, 10, 40, 100
SLOTS = tuple(Slot(layer, kind) for layer in range(LAYERS) for kind in ("PA", "SA"))
MODULES = {slot: Module("lora" if slot.kind == "PA" else "pfeiffer", 1) for slot in SLOTS}
SPACE = Space(LAYERS, Architecture.of(MODULES), {slot: ModuleCost(COST) for slot in SLOTS})


def filled(*places: int) -> Architecture:
    """The architecture with those of the eight slots filled."""
    return Architecture.of({SLOTS[place]: MODULES[SLOTS[place]] for place in places})


# the study


def make_study(*methods: object, seeds: Sequence[int] = (0, 1), **terms: object) -> StudySpec:
    """A study on one task and model; the terms may be given otherwise."""
    values = {"methods": methods, "tasks": ["t"], "models": ["m"], "seeds": seeds, "budget": str(BUDGET)}
    pruning = {"rounds": 2, "criteria": ["weight", "gradient"]}
    return StudySpec.model_validate(values | {"pruning": pruning, "warmup": {"turns": 1}} | terms)


def make_setting(study: StudySpec, cell: Cell) -> Setting:
    spec = study.search_spec(cell)
    template = TrainJob(
        model=cell.model,
        model_fingerprint=cell.model,
        task=cell.task.name,
        task_fingerprint=cell.task.name,
        metric="accuracy",
        architecture=SPACE.supernet,
        modules=spec.modules,
        training=spec.training,
        seed=cell.seed,
    )
    problem = Problem(
        spec=spec,
        space=SPACE,
        budget=BUDGET,
        template=template,
        hidden=8,
        cost=lambda slot, module_type: ModuleCost(COST),
        candidate=study.candidate,
        evaluations=cell.method.evaluations or study.limits.evaluations,
    )
    key = search_key(study.id, cell.method.label, cell.task.name, cell.model, cell.seed)
    names = (cell.method.label, cell.task.name, cell.model, cell.seed)
    return Setting(study, cell, problem, RunContext(key, *names, BUDGET, 1000, TRAIN_SIZE, {}, {}))


# the store


class MemoryStore:
    """Keeps what a results store keeps, and what it is asked for."""

    folder = "memory"

    def __init__(self) -> None:
        self.jobs: dict[str, TrainResult] = {}
        self.requests: dict[str, Request] = {}
        self.searches: dict[str, SearchOutcome] = {}
        self.decisions: list[Decision] = []

    def find(self, job_id: str) -> TrainResult | None:
        return self.jobs.get(job_id)

    def commit_request(self, request: Request) -> bool:
        return self.requests.setdefault(request.key, request) is request

    def find_search(self, key: str) -> SearchOutcome | None:
        return self.searches.get(key)

    def commit_search(self, outcome: SearchOutcome) -> None:
        self.searches[outcome.search] = outcome

    def commit_decisions(self, context: RunContext, decisions: Sequence[Decision]) -> None:
        self.decisions += decisions

    def told(self, setting: Setting) -> list[Request]:
        """What a search was told, in that order."""
        found = {
            request.position: request
            for request in self.requests.values()
            if (request.method, request.task, request.seed)
            == (setting.cell.method.label, setting.cell.task.name, setting.cell.seed)
        }
        return [found[position] for position in sorted(found)]

    def outcome(self, method: str, seed: int = 0) -> SearchOutcome:
        (found,) = (one for one in self.searches.values() if (one.method, one.seed) == (method, seed))
        return found

    def state(self) -> tuple[object, ...]:
        """All that must be the same however often a study was interrupted."""
        ends = {key: replace(outcome, proposal_seconds=0.0) for key, outcome in self.searches.items()}
        return self.jobs, self.requests, ends


# training


class Killed(BaseException):
    """The process was ended just there."""


@dataclass
class Trainer:
    """Makes up and stores the result of a job.

    Args:
        store: Where it goes.
        failing: The labels of the jobs that fail.
        parameters: How many parameters torch counts.
        seconds: Device-seconds of each job.
        kill: The number of jobs after which the process is killed, and whether the last of them was stored.
        ran: All that was run.
    """

    store: MemoryStore
    failing: Sequence[str] = ()
    parameters: Callable[[Work], int] = lambda work: COST * len(work.job.architecture)
    seconds: float = 1.0
    kill: tuple[int, bool] | None = None
    ran: list[Work] = field(default_factory=list)

    def __call__(self, search: StudySearch, work: Work) -> TrainResult:
        self.ran.append(work)
        dies = self.kill is not None and len(self.ran) == self.kill[0]
        if dies and not self.kill[1]:
            raise Killed
        result = self.store.jobs[work.job.id] = self.result(work)
        if dies:
            raise Killed
        return result

    def result(self, work: Work) -> TrainResult:
        job = work.job
        if work.label in self.failing:
            return TrainResult(0, 0, (), 0, {}, status="failed", reason="out of memory", cost=Cost(50, 0, 1, 1.0, 1.0))
        examples = job.training.epochs * (job.train_size or TRAIN_SIZE)
        return TrainResult(
            parameters=self.parameters(work),
            head_parameters=1,
            epochs=(),
            best_epoch=1,
            metrics={"loss": 1.0, "accuracy": digest(job.id)},
            test={"accuracy": digest(job.id, "test")} if job.test else {},
            scores={c: {str(slot): digest(job.id, c, slot) for slot in job.architecture.slots} for c in job.collect},
            cost=Cost(examples, 0, 1, 1.0, self.seconds, self.seconds),
        )

    @property
    def ids(self) -> list[str]:
        return [work.job.id for work in self.ran]


def start(
    study: StudySpec, store: MemoryStore, on_end: Callable[[StudySearch], None] = lambda search: None
) -> StudyRun:
    """Begin a study, or go on where the store ends."""
    settings = [make_setting(study, cell) for cell in study.cells()]
    return StudyRun([StudySearch(setting, store, store.told(setting)) for setting in settings], on_end)


def run(study: StudySpec, trainer: Trainer, on_end: Callable[[StudySearch], None] = lambda search: None) -> StudyRun:
    """Run a study to its end in this process."""
    found = start(study, trainer.store, on_end)
    run_here(found, trainer)
    return found


# toy methods


class Toy(GeneratorMethod):
    """Asks for batches of candidates and chooses the best; failed ones are left out."""

    def __init__(self, problem: Problem, batches: Iterable[Iterable[Architecture]], keep_failures: bool = True) -> None:
        self.problem = problem
        self.seen: list[TrainResult] = []
        self._values: dict[Architecture, float] = {}
        super().__init__(self._search(list(batches)), problem.space.supernet, keep_failures)

    def _search(self, batches):
        number = 0
        for batch in batches:
            work = []
            for architecture in batch:
                number += 1
                work.append(self.problem.candidate_work(architecture, f"candidate {number}"))
            results = yield tuple(work)
            for piece in work:
                self.seen.append(results[piece.job.id])
                self._values[piece.job.architecture] = self.problem.value(results[piece.job.id])
            self.architecture = max(self._values, key=self._values.__getitem__)


class OrderToy:
    """Keeps three candidates running; what it proposes next hangs on the order in which it was told."""

    name = "order"
    decisions = ()

    def __init__(self, problem: Problem, total: int = 8) -> None:
        self.problem = problem
        self.planned = total
        self.told: list[str] = []
        self.proposed: list[Architecture] = []
        self._asked = 0
        self._values: dict[Architecture, float] = {}

    @property
    def done(self) -> bool:
        return len(self.told) == self.planned

    def ask(self) -> tuple[Work, ...]:
        work = []
        while self._asked < min(self.planned, len(self.told) + 3):
            self._asked += 1
            # three slots, so that no other toy trains the same
            left = [one for places in combinations(range(8), 3) if (one := filled(*places)) not in self.proposed]
            self.proposed.append(min(left, key=lambda one: digest(self.problem.seed, one.id, *self.told)))
            work.append(self.problem.candidate_work(self.proposed[-1], f"candidate {self._asked}"))
        return tuple(work)

    def tell(self, job: TrainJob, result: TrainResult) -> None:
        self.told.append(job.id)
        self._values[job.architecture] = self.problem.value(result)

    def best(self) -> Architecture:
        return max(self._values, key=self._values.__getitem__)


class Raising(OrderToy):
    """Raises where it is told to."""

    def __init__(self, problem: Problem, where: str, error: Exception) -> None:
        super().__init__(problem)
        self._where, self._error = where, error
        self._raise("build")

    def _raise(self, where: str) -> None:
        if where == self._where:
            raise self._error

    @property
    def done(self) -> bool:
        self._raise("done")
        return super().done

    @property
    def decisions(self):
        self._raise("decisions")
        return ()

    def ask(self):
        self._raise("ask")
        return super().ask()

    def tell(self, job, result):
        self._raise("tell")
        super().tell(job, result)

    def best(self):
        self._raise("best")
        return super().best()


def toys(*batches: Iterable[Architecture], **info: object) -> MethodInfo:
    """A method that asks for those batches."""
    return MethodInfo("toy", lambda problem, options: Toy(problem, batches), **info)


METHODS: Mapping[str, MethodInfo] = {
    "ones": toys([filled(0), filled(1)], [filled(2), filled(3)]),
    "twos": toys([filled(0, 1), filled(2, 3)], [filled(4, 5)]),
    "order": MethodInfo("toy", lambda problem, options: OrderToy(problem)),
    "prune": MethodInfo("toy", lambda p, options: PrunePEFT(p.spec, p.space, p.budget, p.template)),
}
