"""The registry of search methods and their inputs: the contract that PrunePEFT and all baselines implement.

A method is a :class:`~prunepeft_ray.jobs.Method` that is built from a :class:`Problem`. It is registered by an entry
point in the group ``prunepeft_ray.methods``, or with ``METHODS.register`` in a plugin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from prunepeft_ray.architecture import Architecture, ModuleCost, Slot, Space
from prunepeft_ray.config import CandidateConfig, Config, SearchSpec, validate
from prunepeft_ray.errors import InputError, unknown
from prunepeft_ray.jobs import Method, TrainJob, TrainResult, Work
from prunepeft_ray.pruning import make_job
from prunepeft_ray.registry import Registry
from prunepeft_ray.seeds import derive_seed
from prunepeft_ray.text import error_line

ENTRY_POINTS = "prunepeft_ray.methods"


@dataclass(frozen=True)
class Problem:
    """The problem that a method solves: model, task, space and budget, on terms that all methods share.

    Args:
        spec: The settings of the search, including model, task and seed.
        space: The slots to choose from, and their modules.
        budget: Maximum number of PEFT parameters of the final architecture.
        template: Model, task, metric, modules and recipe that all jobs share.
        hidden: The backbone's hidden size.
        cost: Returns the cost of a module type in a slot, whether or not the space contains it.
        candidate: How candidates are evaluated.
        evaluations: Maximum number of candidates that a method may evaluate.
    """

    spec: SearchSpec
    space: Space
    budget: int
    template: TrainJob
    hidden: int
    cost: Callable[[Slot, str], ModuleCost]
    candidate: CandidateConfig = field(default_factory=CandidateConfig)
    evaluations: int = 20

    @property
    def seed(self) -> int:
        """The seed of the search; derive all others from it with :func:`derive_seed`."""
        return self.spec.seed

    @property
    def layers(self) -> int:
        """Number of layers of the backbone."""
        return self.space.layers

    def with_spec(self, **changes: Any) -> Problem:
        """Return the same problem with other settings, such as ``pruning``, given as complete config models."""
        return replace(self, spec=self.spec.model_copy(update=changes))

    def parameters(self, architecture: Architecture) -> int:
        """Return the exact number of PEFT parameters of any architecture on this backbone, equal to torch's count."""
        return sum(self.cost(slot, module.type).parameters(module.size) for slot, module in architecture)

    def check(self, architecture: Architecture) -> None:
        """Check that an architecture fits this backbone, whether or not the space contains its slots.

        Raises:
            InputError: If a slot does not exist, or cannot hold its module.
        """
        # imported here because it needs torch, which listing methods should not load
        from prunepeft_ray.modules import check_fits

        check_fits(architecture, self.layers)

    def fits(self, architecture: Architecture) -> bool:
        """Whether an architecture fits the budget."""
        return self.parameters(architecture) <= self.budget

    def candidate_work(
        self,
        architecture: Architecture,
        label: str,
        *,
        epochs: int | None = None,
        train_size: int | None = None,
    ) -> Work:
        """Return the work of training an architecture as a candidate and evaluating it on dev.

        All candidates of a search share one seed, so they differ only in the architecture, and no architecture is
        trained twice.

        Args:
            architecture: The architecture to train; not checked against the budget.
            label: Short description for progress displays.
            epochs: Number of epochs; default: that of the study.
            train_size: Size of the training subset, capped at the size of the split; default: that of the study.
        """
        size = self.candidate.train_size if train_size is None else train_size
        job = make_job(
            self.template,
            architecture,
            seed=derive_seed(self.seed, "candidate"),
            epochs=self.candidate.epochs if epochs is None else epochs,
            train_size=size,
        )
        return Work(job, "candidate", label)

    def final_job(self, architecture: Architecture, seed: int) -> TrainJob:
        """Return the final retraining of an architecture: the full recipe, evaluated on dev and test."""
        return make_job(self.template, architecture, seed=derive_seed(seed, "final"), test=True)

    def value(self, result: TrainResult) -> float:
        """Return the primary metric of a result on dev, larger is better; minus infinity if the job failed."""
        if result.status == "failed":
            return -math.inf
        return result.metrics.get(self.template.metric, -math.inf)


class NoOptions(Config):
    """The options of a method that has none."""


@dataclass(frozen=True)
class MethodInfo:
    """A search method that can be used in a study.

    Args:
        description: One-line description.
        build: Builds the method from the problem and its options.
        options: The method's own settings.
        argument: The option that may follow the name after a colon, as in ``single:weight``.
        arguments: Allowed values of that option, for listings. Empty: see ``options``.
        reference: Whether the method may exceed the budget, as a reference for comparison.
    """

    description: str
    build: Callable[[Problem, Any], Method]
    options: type[Config] = NoOptions
    argument: str | None = None
    arguments: tuple[str, ...] = ()
    reference: bool = False


class MethodRegistry(Registry[MethodInfo]):
    """Methods by name; those of installed packages are discovered on first use."""

    def __init__(self) -> None:
        super().__init__("method")

    def register(self, name: str, item: MethodInfo) -> MethodInfo:
        """Add a method and return it.

        Raises:
            ValueError: If the name is taken, possibly by an installed package.
        """
        if name in self._installed:
            raise ValueError(f"{self.noun} '{name}' is already registered")
        return super().register(name, item)

    def __getitem__(self, name: str) -> MethodInfo:
        """Return the method of that name; an argument after a colon is ignored.

        Raises:
            InputError: If there is no such method (the message names the closest match and all known names), or it
                cannot be loaded from its package.
        """
        base = self._base(name)
        if base not in self._items and base in self._installed:
            self._items[base] = _load(self._installed[base])
        if base not in self._items:
            raise unknown(self.noun, base, self)
        return self._items[base]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._base(name) in {*self._items, *self._installed}

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._installed, *self._items)))

    def __len__(self) -> int:
        return len({*self._items, *self._installed})

    def _base(self, name: str) -> str:
        """Return a name without its argument; registered names may themselves contain a colon."""
        return name if name in self._items else name.partition(":")[0]

    @cached_property
    def _installed(self) -> dict[str, EntryPoint]:
        found = entry_points(group=ENTRY_POINTS)
        return {point.name: point for point in sorted(found, key=lambda point: point.name)}

    def options(self, name: str, given: dict[str, Any]) -> Config:
        """Validate a method's own settings.

        Args:
            name: The method, with or without an argument after a colon.
            given: The settings, as plain data.

        Raises:
            InputError: If the method or a setting is unknown.
        """
        info = self[name]
        _, colon, argument = name.partition(":")
        if colon and name not in self._items:
            if info.argument is None:
                raise InputError(f"method '{name}': '{name.partition(':')[0]}' takes no argument after a colon")
            if given.get(info.argument, argument) != argument:
                raise InputError(
                    f"method '{name}': the {info.argument} is given twice: after the colon and under options"
                )
            given = {**given, info.argument: argument}
        return validate(info.options, given, f"method '{name}'")

    def build(self, name: str, problem: Problem, given: dict[str, Any] | None = None) -> Method:
        """Build a method for a problem.

        Args:
            name: The method, with or without an argument after a colon.
            problem: The problem to solve.
            given: The method's own settings, as plain data.

        Raises:
            InputError: If the name or a setting is unknown, or the method does not fit the problem.
        """
        return self[name].build(problem, self.options(name, given or {}))


def _load(point: EntryPoint) -> MethodInfo:
    try:
        found: MethodInfo = point.load()
    except Exception as error:
        what = f"{type(error).__name__}: {error_line(error)}"
        raise InputError(f"method '{point.name}' cannot be loaded from {point.value}: {what}") from error
    return found


METHODS = MethodRegistry()
"""All search methods."""
