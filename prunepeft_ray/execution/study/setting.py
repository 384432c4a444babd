"""The setting of one search of a study."""

from __future__ import annotations

from dataclasses import dataclass

from prunepeft_ray.jobs import Method
from prunepeft_ray.methods import METHODS, Problem
from prunepeft_ray.results import RunContext
from prunepeft_ray.study import Cell, StudySpec


@dataclass(frozen=True)
class Setting:
    """The setting of one search of a study.

    Args:
        study: The study.
        cell: The search: its method, task, model and seed.
        problem: The problem passed to the method.
        context: The search, for the store.
    """

    study: StudySpec
    cell: Cell
    problem: Problem
    context: RunContext

    @property
    def train_size(self) -> int:
        """Number of examples in the task's training split."""
        return self.context.task_train_size

    def build(self) -> Method:
        """Build the method.

        Raises:
            InputError: If its name or options are wrong, or do not fit the problem.
        """
        method = self.cell.method
        return METHODS.build(method.name, self.problem, method.options)
