"""A search and a study with stores but without training, and a tracker that keeps what it is told in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.config import ModulesConfig, SearchSpec, TrainingConfig
from prunepeft_ray.jobs import Cost, Epoch, TrainJob, TrainResult, Work
from prunepeft_ray.results import Request, ResultsStore, RunContext, RunFolder, SearchOutcome, search_key
from prunepeft_ray.study import StudySpec
from prunepeft_ray.tracking import TRACKERS, Job, Known, Outcome, Place, Search, Step, TrackerInfo

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODEL, TASK = "packaged:minilm", "packaged:movie"
FILLED = Architecture.of({Slot(0, "PA"): Module("lora", 8)})
SPEC = SearchSpec.model_validate({"model": MODEL, "task": TASK, "budget": "1%", "seed": 5})
STUDY = StudySpec.model_validate(
    {"methods": ["random-search", "prunepeft"], "tasks": [TASK], "models": [MODEL], "seeds": [0, 1], "budget": "1%"}
)


class RunFake:
    """Writes a run's store the way a driver does; job n ends after n minutes, and each costs two passes."""

    def __init__(self, path: Path, spec: SearchSpec | StudySpec = SPEC) -> None:
        self.folder = RunFolder.create(path, spec)
        self.store = ResultsStore(self.folder.results)
        self.jobs = 0

    def job(
        self,
        kind: str = "round",
        dev: float = 0.5,
        *,
        method: str = "prunepeft",
        seed: int = 5,
        parameters: int = 900,
        evaluate: str = "dev",
        **changes: object,
    ) -> str:
        """Commit a job of two epochs; its id."""
        self.jobs += 1
        recipe = ModulesConfig(), TrainingConfig(epochs=2)
        job = TrainJob(MODEL, "m", TASK, "t", "accuracy", FILLED, *recipe, seed=self.jobs, evaluate=evaluate)
        values = {
            "parameters": parameters,
            "head_parameters": 10,
            "epochs": (
                Epoch(1, 0.75, {"accuracy": dev - 0.25, "loss": 0.5}, 20.0),
                Epoch(2, 0.25, {"accuracy": dev, "loss": 0.25}, 30.0),
            ),
            "best_epoch": 2,
            "metrics": {"accuracy": dev, "loss": 0.25},
            "cost": Cost(800, 100, 50, 4e9, 120.0, 60.0, 1_000_000),
        }
        end = NOW + timedelta(minutes=self.jobs)
        self.store.commit(
            RunContext(self.run_id(method, seed), method, TASK, MODEL, seed, 1000, 100_000, 400, {}, {}),
            Work(job, kind, f"{kind} {self.jobs}"),
            TrainResult(**values | changes),
            end - timedelta(minutes=1),
            end,
        )
        return job.id

    def run_id(self, method: str, seed: int) -> str:
        if not self.folder.is_study:
            return self.folder.run_id
        return search_key(self.folder.study.id, method, TASK, MODEL, seed)

    def ask(self, method: str, seed: int, position: int, job_id: str, kind: str = "round") -> None:
        """Let a search of a study be told a job."""
        names = {"run_id": self.folder.study.id, "method": method, "task": TASK, "model": MODEL, "seed": seed}
        self.store.commit_request(Request(**names, position=position, job_id=job_id, kind=kind, label=kind))

    def finish(self) -> None:
        """Leave a search's answer behind."""
        self.folder.write_json("architecture.json", FILLED.to_dict() | {"parameters": 900})

    def end(self, method: str, seed: int, **changes: object) -> None:
        """End a search of a study."""
        values = {
            "status": "done",
            "reason": "",
            "architecture_id": FILLED.id,
            "parameters": 900,
            "budget": 1000,
            "reference": False,
            "evaluations": 3,
            "proposal_seconds": 0.5,
            "architecture": FILLED.to_json(),
        }
        names = {"run_id": self.folder.study.id, "method": method, "task": TASK, "model": MODEL, "seed": seed}
        self.store.commit_search(SearchOutcome(**names, **values | changes))


def whole_search(path: Path) -> RunFake:
    """A search that has ended: a warm-up, a round and a retraining with dev 0.75 and test 0.625."""
    run = RunFake(path)
    run.job("warmup", evaluate="none", metrics={}, epochs=(Epoch(1, 0.75, {}, 20.0),))
    run.job("round", 0.5, parameters=2000)
    run.job("final", 0.75, test={"accuracy": 0.625})
    run.finish()
    return run


class MemoryTracker:
    """Keeps what it is told; may fail at a piece, or be slow."""

    def __init__(self) -> None:
        self.jobs: dict[str, tuple[Job, Sequence[Step]]] = {}
        self.steps: dict[str, list[Step]] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.begun: list[str] = []
        self.closed = 0
        self.fail_at: int | None = None
        self.pieces = 0

    where = "in memory"

    def begin(self, search: Search) -> Known:
        self.begun.append(search.name)
        outcome = self.outcomes.get(search.key)
        return Known(len(self.steps.get(search.key, ())), outcome.step if outcome else 0)

    def has_job(self, job: Job) -> bool:
        return job.id in self.jobs

    def log_job(self, job: Job, epochs: Sequence[Step]) -> None:
        self._count()
        assert job.id not in self.jobs
        self.jobs[job.id] = (job, epochs)

    def log_step(self, search: Search, step: Step) -> None:
        self._count()
        steps = self.steps.setdefault(search.key, [])
        assert step.number == len(steps) + 1
        steps.append(step)

    def log_outcome(self, search: Search, outcome: Outcome) -> None:
        self._count()
        self.outcomes[search.key] = outcome

    def close(self) -> None:
        self.closed += 1

    def _count(self) -> None:
        if self.pieces == self.fail_at:
            raise OSError("the server is gone")
        self.pieces += 1


def register(monkeypatch, tracker: MemoryTracker, name: str = "memory") -> MemoryTracker:
    """Make a tracker known for one test."""
    monkeypatch.setitem(TRACKERS._items, name, TrackerInfo("Memory", "json", lambda place: tracker))
    return tracker


def place(run: RunFake) -> Place:
    return Place(run.folder)
