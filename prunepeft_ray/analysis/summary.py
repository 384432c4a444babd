"""What a run found, what it cost and how it came to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from prunepeft_ray.analysis.charges import account, active_seconds
from prunepeft_ray.analysis.open import open_strictly
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.architecture import Architecture, Slot
from prunepeft_ray.errors import InputError
from prunepeft_ray.results import RunFolder

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Removal:
    """A slot that a round removed.

    Args:
        round: 1-based round.
        slot: The slot, as text.
        probability: Its probability of being pruned, p(m).
        criteria: The criteria that judged it.
    """

    round: int
    slot: str
    probability: float
    criteria: tuple[str, ...]


@dataclass(frozen=True)
class Phase:
    """What one part of a search cost.

    Args:
        name: warmup, round or final.
        jobs: Finished jobs.
        examples: Examples trained on.
        epochs: The same in passes over the training split (paper, Table 4).
        seconds: Wall-clock seconds in which any of its jobs ran; jobs side by side count once.
        flops: Operations of training.
        redone: Examples trained on once more, in attempts that were lost; no part of the cost.
        reused: Jobs that were read from the pool of finished jobs: they count in full, except for ``seconds``.
    """

    name: str
    jobs: int
    examples: int
    epochs: float
    seconds: float
    flops: float
    redone: int = 0
    reused: int = 0


@dataclass(frozen=True)
class Summary:
    """A run at a glance; what is not there yet is None.

    Args:
        folder: The run's folder.
        finished: Whether the run has ended.
        model: Backbone.
        task: Task.
        metric: The primary metric.
        budget: As the user wrote it.
        seed: Seed of the run.
        supernet: Every slot that the search began with.
        found: The architecture found.
        blocks: Sizes of the blocks of layers.
        parameters: PEFT parameters of the architecture found.
        budget_parameters: The budget in parameters.
        backbone_parameters: Parameters of the backbone without its head.
        head_parameters: Parameters of the task head.
        dev: Metrics of the final retraining on dev.
        test: Its metrics on test.
        phases: What each phase cost.
        removals: What the rounds removed, in order.
        strategy: Criteria by partition.
        criteria: All criteria that the search works with.
        abstained: Those that gave every slot the same value in the warm-up.
    """

    folder: str
    finished: bool
    model: str
    task: str
    metric: str | None
    budget: str
    seed: int
    supernet: Architecture | None
    found: Architecture | None
    blocks: tuple[int, ...]
    parameters: int | None
    budget_parameters: int | None
    backbone_parameters: int | None
    head_parameters: int | None
    dev: Mapping[str, float]
    test: Mapping[str, float]
    phases: tuple[Phase, ...]
    removals: tuple[Removal, ...]
    strategy: Mapping[str, tuple[str, ...]]
    criteria: tuple[str, ...]
    abstained: tuple[str, ...] = ()

    @property
    def percent(self) -> float | None:
        """PEFT parameters as a percentage of the backbone."""
        if self.parameters is None or not self.backbone_parameters:
            return None
        return 100 * self.parameters / self.backbone_parameters

    @property
    def search_epochs(self) -> float:
        """Passes over the training split spent on warm-up and rounds."""
        return sum(phase.epochs for phase in self.phases if phase.name != "final")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {
            "supernet": self.supernet.to_dict() if self.supernet else None,
            "found": self.found.to_dict() if self.found else None,
            "percent": self.percent,
            "search_epochs": self.search_epochs,
        }


def summarise(folder: RunFolder, results: Results | None = None) -> Summary:
    """Summarise a run from what it has left behind so far.

    Args:
        folder: The run's folder.
        results: Its opened results; default: they are opened such that a damaged file is an error.

    Raises:
        InputError: If a file of the run cannot be read by this version.
        RunError: If a file is damaged.
    """
    spec = folder.spec
    results = open_strictly(folder) if results is None else results
    jobs = results["jobs"]
    answer, supernet, found = _read_answer(folder)
    strategy = folder.read_json("strategy.json") or {}
    final = jobs[(jobs.kind == "final") & (jobs.status == "done")]
    last = final.iloc[-1] if len(final) else None
    first = jobs.iloc[0] if len(jobs) else None
    return Summary(
        folder=str(folder.path),
        finished=folder.finished,
        model=spec.model,
        task=spec.task.name,
        metric=None if first is None else str(first.metric),
        budget=spec.budget,
        seed=spec.seed,
        supernet=supernet,
        found=found,
        blocks=tuple(answer.get("blocks", ())),
        parameters=answer.get("parameters"),
        budget_parameters=answer.get("budget") if first is None else int(first.budget),
        backbone_parameters=answer.get("backbone_parameters") if first is None else int(first.backbone_parameters),
        head_parameters=answer.get("head_parameters"),
        dev={} if last is None else dict(last.metrics),
        test={} if last is None else dict(last.test_metrics),
        phases=tuple(_phase(name, results) for name in ("warmup", "round", "final")),
        removals=_removals(results["removals"]),
        strategy={partition: tuple(criteria) for partition, criteria in strategy.get("assignment", {}).items()},
        criteria=spec.pruning.criteria,
        abstained=tuple(strategy.get("abstained", ())),
    )


def _read_answer(folder: RunFolder) -> tuple[dict[str, Any], Architecture | None, Architecture | None]:
    """Read ``architecture.json``: all of it, the supernet and what was found; nothing if it is not there yet."""
    answer = folder.read_json("architecture.json")
    if answer is None:
        return {}, None, None
    try:
        return answer, Architecture.from_dict(answer["supernet"]), Architecture.from_dict(answer)
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"{folder.path / 'architecture.json'} is damaged: {error}") from error


def _phase(name: str, results: Results) -> Phase:
    jobs, charged = results["jobs"], results["charges"]
    cost = account(charged[charged.kind == name])
    return Phase(
        name=name,
        jobs=int(cost.jobs),
        examples=int(cost.examples),
        epochs=cost.epochs,
        seconds=_busy_seconds(jobs[jobs.kind == name]),
        flops=cost.flops,
        redone=int(cost.redone),
        reused=int(cost.reused),
    )


def _busy_seconds(jobs: pd.DataFrame) -> float:
    # a job that was taken up again has a start of its last attempt alone
    earlier = (jobs.wall_seconds - (jobs.finished_at - jobs.started_at).dt.total_seconds()).clip(lower=0)
    return active_seconds(jobs) + float(earlier[jobs.restarts > 0].sum())


def _removals(removals: pd.DataFrame) -> tuple[Removal, ...]:
    facts = removals[["round", "slot", "probability", "criteria"]].itertuples(index=False, name=None)
    return tuple(Removal(index, slot, p, tuple(criteria.split(", "))) for index, slot, p, criteria in facts)


def removed_in(summary: Summary) -> dict[Slot, int]:
    """Return the round in which each pruned slot went."""
    return {Slot.parse(removal.slot): removal.round for removal in summary.removals}
