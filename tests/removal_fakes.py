"""A study of pruning searches made by hand: four layers, two kinds, and decisions that can be counted on paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from comparison_fakes import COST, MODEL, NOW, TASK
from report_fakes import supernet

from prunepeft_ray.analysis import Results, open_results
from prunepeft_ray.architecture import Architecture, Slot, partition_of
from prunepeft_ray.config import ModulesConfig, TrainingConfig
from prunepeft_ray.jobs import Decision, TrainJob, TrainResult, Work
from prunepeft_ray.results import Request, ResultsStore, RunContext, RunFolder, SearchOutcome, search_key
from prunepeft_ray.study import StudySpec

WHOLE = supernet()
PARTITIONS = {str(slot): str(partition) for slot, partition in partition_of(WHOLE.slots, 4).items()}
CRITERIA = ("weight", "zeros")


def without(*gone: str) -> Architecture:
    """The supernet without some slots."""
    return WHOLE.without(Slot.parse(slot) for slot in gone)


class PruningStudy:
    """Writes a study's store the way a driver does, search by search."""

    def __init__(self, path: Path, methods: tuple[str, ...] = ("prunepeft",), seeds: tuple[int, ...] = (0, 1)) -> None:
        self.spec = StudySpec(methods=methods, tasks=(TASK,), models=(MODEL,), seeds=seeds, budget="1%")
        self.folder = RunFolder.create(path, self.spec)
        self.store = ResultsStore(self.folder.results)
        self._jobs = 0

    def results(self) -> Results:
        """What a report is made of."""
        return open_results(self.folder.path)

    def key(self, seed: int, method: str = "prunepeft") -> str:
        """The search's name among all."""
        return search_key(self.spec.id, method, TASK, MODEL, seed)

    def train(
        self,
        seed: int,
        kind: str,
        architecture: Architecture = WHOLE,
        *,
        method: str = "prunepeft",
        evaluate: str = "dev",
        train_size: int | None = None,
        **metrics: float,
    ) -> str:
        """Commit a job that a search asked for; its id."""
        recipe = TrainingConfig(epochs=1)
        self._jobs += 1
        job = TrainJob(
            MODEL,
            "m",
            TASK,
            "t",
            "accuracy",
            architecture,
            ModulesConfig(),
            recipe,
            self._jobs,
            train_size,
            0.0,
            evaluate,
        )
        context = self._context(seed, method)
        result = TrainResult(100 * len(architecture), 10, (), 1, metrics, cost=COST)
        self.store.commit(context, Work(job, kind, kind), result, NOW, NOW)
        retrain = 0 if kind == "final" else None
        self.store.commit_request(
            Request(self.spec.id, method, TASK, MODEL, seed, self._jobs, job.id, kind, kind, retrain)
        )
        return job.id

    def turn(
        self, seed: int, index: int, criterion: str, slots: Iterable[Slot], gone: tuple[str, ...], job: str
    ) -> None:
        """A criterion's decisions in a warm-up turn."""
        self._decide(seed, "warmup", index, slots, dict.fromkeys(gone, 9.0), {}, job, criterion)

    def round(
        self,
        seed: int,
        index: int,
        before: Architecture,
        gone: Mapping[str, float],
        judges: Mapping[str, tuple[str, ...]],
        **metrics: float,
    ) -> str:
        """A round: its training of what stands before it, and its decisions; ``judges`` by partition."""
        job = self.train(seed, "round", before, **metrics)
        self._decide(seed, "round", index, before.slots, gone, judges, job)
        return job

    def end(self, seed: int, answer: Architecture | None, *, method: str = "prunepeft", status: str = "done") -> None:
        """The end of a search."""
        chosen = answer or Architecture()
        outcome = SearchOutcome(
            run_id=self.spec.id,
            method=method,
            task=TASK,
            model=MODEL,
            seed=seed,
            status=status,
            reason="",
            architecture_id=chosen.id if answer else "",
            parameters=100 * len(chosen),
            budget=1000,
            reference=False,
            evaluations=0,
            proposal_seconds=0.5,
            architecture=chosen.to_json() if answer else "",
        )
        self.store.commit_search(outcome)

    def _context(self, seed: int, method: str) -> RunContext:
        return RunContext(self.key(seed, method), method, TASK, MODEL, seed, 1000, 100_000, 400, {}, {})

    def _decide(
        self,
        seed: int,
        step: str,
        index: int,
        slots: Iterable[Slot],
        gone: Mapping[str, float],
        judges: Mapping[str, tuple[str, ...]],
        job: str,
        criterion: str = "weight",
    ) -> None:
        rows = [
            Decision(
                step,
                index,
                str(slot),
                PARTITIONS[str(slot)],
                judges.get(PARTITIONS[str(slot)], (criterion,)),
                gone.get(str(slot), 0.01),
                str(slot) in gone,
                job,
            )
            for slot in slots
        ]
        self.store.commit_decisions(self._context(seed, "prunepeft"), rows)


def write_pruning_study(path: Path) -> PruningStudy:
    """Two searches of one method: seed 0 is done, seed 1 has ended its first round; one random search beside them."""
    study = PruningStudy(path, ("prunepeft", "random-search"))
    chains = {"weight": [("PA.0", "PA.1"), ("PA.2", "SA.0")], "zeros": [("SA.3", "SA.2"), ("SA.1", "SA.0")]}
    for criterion, (first, second) in chains.items():
        job = study.train(0, "warmup", evaluate="none", train_size=100)
        study.turn(0, 1, criterion, WHOLE.slots, first, job)
        job = study.train(0, "warmup", without(*first), evaluate="none", train_size=100)
        study.turn(0, 2, criterion, without(*first).slots, second, job)
    job = study.train(1, "warmup", evaluate="none", train_size=100)
    study.turn(1, 1, "weight", WHOLE.slots, ("PA.0", "SA.3"), job)
    study.turn(1, 1, "zeros", WHOLE.slots, ("SA.3", "SA.2"), job)
    judges = {"3.SA": CRITERIA, "2.SA": ("zeros",)}
    study.round(0, 1, WHOLE, {"SA.3": 0.5, "PA.0": 0.25}, judges, accuracy=0.5, loss=0.7)
    study.round(0, 2, without("SA.3", "PA.0"), {"SA.0": 0.75}, judges, accuracy=0.625, loss=0.6)
    answer = without("SA.3", "PA.0", "SA.0")
    study.train(0, "final", answer, accuracy=0.75, loss=0.4)
    study.end(0, answer)
    study.round(1, 1, WHOLE, {"PA.0": 0.5}, judges | {"2.SA": ("weight",)}, accuracy=0.25, loss=0.8)
    study.end(0, without(*(str(slot) for slot in WHOLE.slots[2:])), method="random-search")
    return study
