"""A small study made by hand: searches with few jobs and numbers that can be checked on paper."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.config import ModulesConfig, TrainingConfig
from prunepeft_ray.jobs import Cost, TrainJob, TrainResult, Work
from prunepeft_ray.results import Request, ResultsStore, RunContext, SearchOutcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODEL, TASK, RUN = "packaged:minilm", "packaged:movie", "0123456789ab"
COST = Cost(train_examples=800, steps=25, flops=4e9, device_seconds=6.0, wall_seconds=3.0, peak_memory_bytes=1_000_000)
"""Of every job: two passes over the 400 training examples."""


class StudyFake:
    """Writes a study's store the way a driver does."""

    def __init__(self, path: Path) -> None:
        self.store = ResultsStore(path / "results")
        self._jobs = 0
        self._told: dict[tuple[object, ...], int] = {}
        self._retrained: Counter[tuple[str, str, int]] = Counter()

    def job(self, kind: str = "round", *, cost: Cost = COST, task: str = TASK, **changes: object) -> str:
        """Commit a job; its id."""
        job = TrainJob(
            MODEL, "m", task, "t", "accuracy", Architecture(), ModulesConfig(), TrainingConfig(), seed=self._jobs
        )
        self._jobs += 1
        values = {"parameters": 900, "head_parameters": 10, "epochs": (), "best_epoch": 1, "metrics": {}, "cost": cost}
        context = RunContext(RUN, "whoever", task, MODEL, 0, 1000, 100_000, 400, {}, {})
        end = NOW + timedelta(seconds=cost.wall_seconds)
        self.store.commit(context, Work(job, kind, kind), TrainResult(**values | changes), NOW, end)
        return job.id

    def ask(
        self, method: str, seed: int, job_id: str, kind: str = "round", *, task: str = TASK, **more: object
    ) -> None:
        """Let a search be told a job."""
        search = (method, task, seed)
        position = self._told.get(search, 0)
        self._told[search] = position + 1
        values = {"position": position, "label": kind, "run_id": RUN} | more
        self.store.commit_request(
            Request(method=method, task=task, model=MODEL, seed=seed, job_id=job_id, kind=kind, **values)
        )

    def candidate(self, method: str, seed: int, dev: float, **changes: object) -> str:
        job_id = self.job("candidate", metrics={"accuracy": dev, "loss": 9.0}, **changes)
        self.ask(method, seed, job_id, "candidate")
        return job_id

    def end(self, method: str, seed: int, *, task: str = TASK, **changes: object) -> None:
        values = {
            "run_id": RUN,
            "status": "done",
            "reason": "",
            "architecture_id": "a",
            "parameters": 900,
            "budget": 1000,
            "reference": False,
            "evaluations": 0,
            "proposal_seconds": 0.5,
        }
        self.store.commit_search(SearchOutcome(method=method, task=task, model=MODEL, seed=seed, **values | changes))

    def retrain(
        self, method: str, seed: int, tests: list[float], devs: list[float] | None = None, *, task: str = TASK
    ) -> None:
        """Retrain what a search has chosen; dev is test + 0.05 unless given."""
        for number, test in enumerate(tests):
            dev = devs[number] if devs else test + 0.05
            metrics, measured = {"accuracy": dev, "loss": 9.0}, {"accuracy": test, "f1": 0.0}
            job_id = self.job("final", task=task, metrics=metrics, test=measured)
            self.ask(method, seed, job_id, "final", task=task, retrain_seed=self._retrained[method, task, seed])
            self._retrained[method, task, seed] += 1

    def search(
        self,
        method: str,
        seed: int,
        tests: list[float],
        devs: list[float] | None = None,
        *,
        rounds: int = 1,
        task: str = TASK,
        **outcome: object,
    ) -> None:
        """A whole search: some rounds, its end and its retrainings."""
        for _ in range(rounds):
            self.ask(method, seed, self.job(task=task), task=task)
        self.end(method, seed, task=task, **outcome)
        self.retrain(method, seed, tests, devs, task=task)
