"""The loop between a method and an executor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from prunepeft_ray.errors import RunError
from prunepeft_ray.events import Event
from prunepeft_ray.execution.executor import GroupExecutor, _abstentions, _judges, together
from prunepeft_ray.jobs import Decision, Method


def drive(method: Method, executor: GroupExecutor) -> None:
    """Run the work that a method asks for and tell it the results, until it is done.

    Raises:
        RunError: If a job failed, a result cannot be stored, or the method waits for results although nothing runs.
    """
    told = 0
    while not method.done:
        work = method.ask()
        if not work:
            raise RunError(f"method '{method.name}' waits for results, but nothing is running")
        for piece, result in zip(work, executor.run(work), strict=True):
            method.tell(piece.job, result)
        fresh = list(method.decisions[told:])
        told += len(fresh)
        if fresh:
            together(executor.group, partial(executor.store.commit_decisions, executor.context, fresh))
            for line in _story(fresh) if executor.group.rank == 0 else ():
                executor.emit(Event("message", line))


def _story(decisions: Sequence[Decision]) -> list[str]:
    """Describe decisions in lines: criteria that abstained in the warm-up; what each round removed, and why."""
    judged = [decision for decision in decisions if decision.step == "round"]
    gone = sorted((d for d in judged if d.removed), key=lambda d: (d.index, -d.probability))
    lines = [f"round {d.index} removed {d.slot} (p={d.probability:.3f}; {_judges(d)})" for d in gone]
    if judged:
        lines.append(f"{len(judged) - len(gone)} slots left")
    return [*_abstentions(decisions), *lines]
