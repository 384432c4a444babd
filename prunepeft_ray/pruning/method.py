"""The PrunePEFT method: warm-up, pruning rounds, final retraining (paper, Algorithm 1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prunepeft_ray.architecture import Space, check_holds_slot, partition_of
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.criteria.base import CRITERIA
from prunepeft_ray.errors import InputError
from prunepeft_ray.jobs import Decision, TrainJob, TrainResult, Work
from prunepeft_ray.pruning.profiles import PROFILES, RoundScores
from prunepeft_ray.pruning.rounds import slots_per_round, slots_to_remove
from prunepeft_ray.pruning.scores import most_prunable, read_halves, read_thetas
from prunepeft_ray.pruning.steps import GeneratorMethod, Steps, make_job
from prunepeft_ray.pruning.strategy import Strategy
from prunepeft_ray.pruning.warmup import SELECTORS, WarmUp
from prunepeft_ray.seeds import derive_seed


class PrunePEFT(GeneratorMethod):
    """Iterative hybrid pruning of a supernet of PEFT modules (arXiv 2506.07587).

    Args:
        spec: The settings of the search.
        space: The search space; the search starts from its supernet.
        budget: Maximum number of PEFT parameters of the final architecture.
        template: Model, task, metric, modules and recipe that all jobs share.
        strategy: A hybrid strategy learned earlier, possibly on another task or model (paper, Table 6). Without one it
            is learned in the warm-up, unless there is only a single criterion.

    Attributes:
        strategy: The hybrid strategy in use; None until it is learned.
        rounds_done: Number of finished pruning rounds.
        per_round: Number of slots that every round but the last removes, the paper's k.
        final_job: The final retraining; None until the rounds are over.

    Raises:
        InputError: If a criterion, profile or selector is unknown, the backbone is too shallow for the blocks, no slot
            fits the budget, or the strategy lacks a partition of the space or was learned with more blocks.
    """

    name = "prunepeft"

    def __init__(
        self,
        spec: SearchSpec,
        space: Space,
        budget: int,
        template: TrainJob,
        strategy: Strategy | None = None,
    ) -> None:
        pruning = spec.pruning
        self.spec = spec
        self.space = space
        self.budget = budget
        self.strategy = strategy
        self.rounds_done = 0
        self.final_job: TrainJob | None = None
        self.per_round = pruning.remove or slots_per_round(space, budget, pruning.rounds)
        self._template = replace(template, threshold=pruning.threshold, threshold_quantile=pruning.threshold_quantile)
        self._partitions = partition_of(space.supernet.slots, space.layers, pruning.blocks)
        self._collect = tuple(dict.fromkeys((*pruning.criteria, *(strategy.criteria if strategy else ()))))
        self._profile = PROFILES[pruning.profile]
        self._selector = SELECTORS[spec.warmup.select]
        self._check()
        self.planned = self._max_jobs()
        super().__init__(self._search(), space.supernet)

    @property
    def fits(self) -> bool:
        """Whether the current architecture fits the budget."""
        return self.space.parameters(self.architecture) <= self.budget

    def _check(self) -> None:
        for name in self._collect:
            CRITERIA[name]
        check_holds_slot(self.space, self.budget)
        if self.strategy is not None:
            self._check_partitions(self.strategy)

    def _check_partitions(self, strategy: Strategy) -> None:
        """Reject a strategy with different blocks, whose block numbers would refer to other parts of the depth."""
        here, known = set(self._partitions.values()), set(strategy.assignment)
        kinds = {partition.kind for partition in here}
        surplus = {partition for partition in known - here if partition.kind in kinds}
        if missing := here - known:
            what = f"lacks partition {min(missing)}"
        elif surplus:
            what = f"has partition {min(surplus)}, which does not exist here"
        else:
            return
        raise InputError(
            f"the strategy {what}; its partitions are {', '.join(map(str, sorted(known)))}: use the pruning.blocks "
            "and space.kinds that it was learned with"
        )

    def _max_jobs(self) -> int | None:
        pruning = self.spec.pruning
        criteria = len(set(pruning.criteria))
        warm_ups = (pruning.rounds if pruning.dynamic else 1) - (self.strategy is not None)
        # the last 1 is the final retraining
        others = pruning.rounds + 1
        if criteria == 1 or warm_ups == 0:
            return others
        if self._selector.steps is None:
            return None
        steps = self._selector.steps(self.spec.warmup, len(set(self._partitions.values())))
        # the first step of a warm-up is one job for all criteria
        return warm_ups * (1 + (steps - 1) * criteria) + others

    def _search(self) -> Steps[None]:
        rounds = self.spec.pruning.rounds
        for index in range(1, rounds + 1):
            if self.fits:
                break
            if self.strategy is None or (self.spec.pruning.dynamic and index > 1):
                self.strategy = yield from self._warm_up()
            yield from self._round(index, last=index == rounds)
        self.final_job = make_job(
            self._template, self.architecture, seed=derive_seed(self.spec.seed, "final"), test=True
        )
        yield (Work(self.final_job, "final", "final retraining"),)

    def _warm_up(self) -> Steps[Strategy]:
        spec = self.spec
        criteria = tuple(dict.fromkeys(spec.pruning.criteria))
        if len(criteria) == 1:
            return Strategy.uniform(self._partitions.values(), criteria, spec.seed)
        warmup = WarmUp(
            template=self._template,
            config=spec.warmup,
            criteria=criteria,
            partitions=self._partitions,
            compare=spec.pruning.compare,
            seed=spec.seed,
            decisions=self.decisions,
            origin=self._origin(),
        )
        return (yield from self._selector.learn(warmup, self.architecture))

    def _origin(self) -> dict[str, Any]:
        spec, job = self.spec, self._template
        return {
            "model": job.model,
            "model_fingerprint": job.model_fingerprint,
            "task": job.task,
            "task_fingerprint": job.task_fingerprint,
            "layers": self.space.layers,
            "architecture": self.architecture.to_dict(),
            "warmup": spec.warmup.model_dump(mode="json"),
            "blocks": spec.pruning.model_dump(mode="json")["blocks"],
            "compare": spec.pruning.compare,
        }

    def _round(self, index: int, last: bool) -> Steps[None]:
        """Train, score and remove slots (paper, Algorithm 1); the next job trains the rest from scratch."""
        pruning = self.spec.pruning
        job = make_job(
            self._template,
            self.architecture,
            seed=derive_seed(self.spec.seed, "round", index),
            epochs=pruning.round_epochs,
            collect=self._collect,
            train_size=pruning.train_size,
            evaluate="dev" if pruning.evaluate_rounds else "none",
        )
        work = Work(job, "round", f"round {index}/{pruning.rounds}")
        results = yield (work,)
        self._prune(index, None if last else self.per_round, work, results[job.id])
        self.rounds_done = index

    def _prune(self, index: int, most: int | None, work: Work, result: TrainResult) -> None:
        strategy, ties = self.strategy, derive_seed(self.spec.seed, "round ties", index)
        assert strategy is not None  # the first round is preceded by the warm-up
        thetas = read_thetas(result, self._collect, self.architecture.slots, work.label)
        halves = read_halves(result, self._collect, self.architecture.slots)
        scores = RoundScores(thetas, self._partitions, strategy, self.spec.pruning.compare, ties, halves)
        p = self._profile(scores)
        removed = slots_to_remove(most_prunable(p, len(p), ties), self.architecture, self.space, self.budget, most)
        self.decisions.extend(
            Decision(
                step="round",
                index=index,
                slot=str(slot),
                partition=str(self._partitions[slot]),
                criteria=scores.judges(slot),
                probability=p[slot],
                removed=slot in removed,
                job_id=work.job.id,
            )
            for slot in self.architecture.slots
        )
        self.architecture = self.architecture.without(removed)
