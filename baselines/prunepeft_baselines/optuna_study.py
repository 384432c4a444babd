"""Search with an in-memory Optuna study."""

from __future__ import annotations

import math
import random

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import Trial, TrialState

from prunepeft_baselines.candidates import CandidateSearch, first_candidates
from prunepeft_baselines.optuna_options import OptunaOptions
from prunepeft_baselines.sampling import FeasibleSampler
from prunepeft_ray import Architecture, Problem, Slot, Steps, derive_seed


def optuna_search(name: str, problem: Problem, options: OptunaOptions) -> CandidateSearch:
    """Search with the Optuna sampler of that name.

    All three samplers maximise the metric and minimise the parameters, with the budget as a constraint: TPE (Bergstra
    et al. 2011; multi-objective: Ozaki et al. 2022), NSGA-II (Deb et al. 2002) and a Gaussian process with expected
    hypervolume improvement. Optuna's state depends only on the seed and the order of reported results, and results of a
    batch are reported in the order in which its candidates were proposed.

    Args:
        name: ``"optuna-tpe"``, ``"optuna-nsga2"`` or ``"optuna-gp"``.
        problem: The space, the budget and the number of evaluations.
        options: The settings.

    Raises:
        InputError: If no slot fits the budget.
    """
    study = _Study(name, problem, options)
    return CandidateSearch(name, problem, study.search(), study.evaluations)


def _sampler(name: str, seed: int, evaluations: int, startup: int | None) -> tuple[BaseSampler, int]:
    """Return the sampler and the number of random candidates that it starts from.

    With Optuna's defaults, a search with few evaluations would be purely random.
    """
    if name == "optuna-nsga2":
        startup = startup or min(50, max(2, evaluations // 4))
        return NSGAIISampler(seed=seed, population_size=startup), startup
    startup = startup or min(10, max(2, evaluations // 3))
    if name == "optuna-gp":
        return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False), startup
    # sampling all switches jointly takes a tenth of the time of sampling them one by one, and proved as good
    return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True), startup


class _Study:
    """The search; see :func:`optuna_search`."""

    def __init__(self, name: str, problem: Problem, options: OptunaOptions) -> None:
        self._name = name
        self._problem = problem
        self._options = options
        self._feasible = FeasibleSampler(problem.space, problem.budget)
        self.evaluations = min(problem.evaluations, self._feasible.count)
        seed = derive_seed(problem.seed, name)
        sampler, self._startup = _sampler(name, seed, self.evaluations, options.startup)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            study_name=f"{name}-{seed}", directions=["maximize", "minimize"], sampler=sampler
        )
        self._switches = {str(slot): CategoricalDistribution([False, True]) for slot in problem.space.supernet.slots}
        self._rng = random.Random(derive_seed(problem.seed, name, "unseen"))
        self._seen = {Architecture()}
        self._metrics: list[float] = []
        self._evaluated = 0

    def search(self) -> Steps[None]:
        """Evaluate the first candidates, then batches of proposals."""
        first = first_candidates(self._problem, min(self._startup, self.evaluations))
        yield from self._evaluate([self._place(architecture) for architecture in first])
        while self._evaluated < self.evaluations:
            count = min(self._options.batch, self.evaluations - self._evaluated)
            yield from self._evaluate([self._propose() for _ in range(count)])

    def _evaluate(self, trials: list[Trial]) -> Steps[None]:
        work = []
        for trial in trials:
            self._evaluated += 1
            label = f"candidate {self._evaluated}/{self.evaluations}"
            work.append(self._problem.candidate_work(self._architecture(trial), label))
        results = yield tuple(work)
        for trial, piece in zip(trials, work, strict=True):
            value = self._problem.value(results[piece.job.id])
            if math.isfinite(value):
                self._metrics.append(value)
                self._tell(trial, value)
            else:
                self._study.tell(trial, state=TrialState.FAIL)

    def _propose(self) -> Trial:
        """Ask Optuna until it proposes a new architecture within the budget; no other one is trained."""
        for _ in range(self._options.tries):
            trial = self._study.ask(self._switches)
            architecture = self._architecture(trial)
            if architecture in self._seen:
                # reported twice, a candidate would count double, and similar ones be proposed more often
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            self._seen.add(architecture)
            if self._problem.fits(architecture):
                return trial
            # Optuna needs a metric here too: to its Gaussian process the mean is uninformative, and the other samplers
            # ignore it
            self._tell(trial, math.fsum(self._metrics) / max(1, len(self._metrics)))
        return self._place(self._unseen())

    def _place(self, architecture: Architecture) -> Trial:
        """Make Optuna propose this architecture."""
        self._seen.add(architecture)
        self._study.enqueue_trial({name: Slot.parse(name) in architecture for name in self._switches})
        return self._study.ask(self._switches)

    def _unseen(self) -> Architecture:
        architecture = self._feasible.sample(self._rng)
        while architecture in self._seen:
            architecture = self._feasible.sample(self._rng)
        return architecture

    def _tell(self, trial: Trial, metric: float) -> None:
        parameters = self._problem.parameters(self._architecture(trial))
        trial.set_constraint("budget", parameters / self._problem.budget - 1)
        self._study.tell(trial, (metric, parameters))

    def _architecture(self, trial: Trial) -> Architecture:
        supernet = self._problem.space.supernet
        return Architecture.of({slot: module for slot, module in supernet if trial.params[str(slot)]})
