"""A user-defined criterion, task and method, available to a study that names this folder under ``plugins``.

See ``example-plugin.yaml`` beside this folder.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from prunepeft_ray import (
    CRITERIA,
    METHODS,
    TASKS,
    Architecture,
    Config,
    Criterion,
    GeneratorMethod,
    InputError,
    MethodInfo,
    Problem,
    Steps,
    TaskConfig,
    TaskData,
    TaskSource,
    load_task,
)

CRITERIA.register(
    "spread",
    Criterion(
        name="spread",
        focus="feature characteristics",
        formula="std(w)",
        prunes="small",
        of_weights=lambda weights, threshold: weights.std(),
    ),
)


def read_weather(config: TaskConfig) -> TaskData:
    """Read the task from the file beside this one; dev and test are split off from it."""
    file = Path(__file__).with_name("weather.csv")
    return load_task(TaskConfig(name=str(file), text="text", label="label", seed=config.seed))


TASKS.register("weather", TaskSource("fair or foul weather (made up)", "240", ("accuracy", "f1"), read_weather))


class TopDownOptions(Config):
    """Settings of the method."""

    first: int = Field(2, ge=1, description="how many of the uppermost layers the first candidate fills")


class TopDown(GeneratorMethod):
    """Fills the uppermost layers, one more with each candidate, as long as that fits the budget and helps."""

    name = "top-down"

    def __init__(self, problem: Problem, options: TopDownOptions) -> None:
        """Start a search.

        Raises:
            InputError: If the first candidate exceeds the budget.
        """
        self.problem = problem
        if options.first > problem.layers or not problem.fits(self._filled(options.first)):
            raise InputError(f"method 'top-down': {options.first} layers are too many; set 'first' lower")
        super().__init__(self._search(options.first), Architecture(), keep_failures=True)

    def _search(self, layers: int) -> Steps[None]:
        best = float("-inf")
        while layers <= self.problem.layers:
            candidate = self._filled(layers)
            if not self.problem.fits(candidate):
                return
            work = self.problem.candidate_work(candidate, f"the upper {layers} layers")
            results = yield (work,)
            value = self.problem.value(results[work.job.id])
            if value <= best:
                return
            best, self.architecture, layers = value, candidate, layers + 1

    def _filled(self, layers: int) -> Architecture:
        lowest = self.problem.layers - layers
        return Architecture.of({slot: module for slot, module in self.problem.space.supernet if slot.layer >= lowest})


METHODS.register("top-down", MethodInfo("fills the top layers, one more at a time", TopDown, TopDownOptions))
