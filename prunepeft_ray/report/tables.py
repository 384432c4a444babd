"""A run's summary as tables for the terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table

from prunepeft_ray.report.drawing import architecture_table
from prunepeft_ray.report.summary import Summary


def summary_tables(summary: Summary) -> list[RenderableType]:
    """Return what to print of a run, from how it came about to what it found.

    Args:
        summary: The run; an unfinished one is shown as far as it has come.
    """
    parts: list[RenderableType] = []
    if summary.strategy:
        parts.append(_strategy_table(summary))
    if summary.removals:
        parts.append(_rounds_table(summary))
    if summary.found is not None:
        parts.append(architecture_table(summary))
    parts += [_cost_table(summary), _result_table(summary)]
    if not summary.finished:
        parts.append(f"not finished yet; 'prunepeft resume {summary.folder}' goes on")
    return parts


def _strategy_table(summary: Summary) -> Table:
    table = Table("partition", "criteria", title="hybrid strategy")
    for partition, criteria in summary.strategy.items():
        block, kind = partition.split(".")
        table.add_row(f"block {block}, {kind}", ", ".join(criteria))
    return table


def _rounds_table(summary: Summary) -> Table:
    table = Table("round", "removed", "p", "criteria", title="pruning")
    for removal in summary.removals:
        table.add_row(str(removal.round), removal.slot, f"{removal.probability:.3f}", ", ".join(removal.criteria))
    return table


def _cost_table(summary: Summary) -> Table:
    table = Table("phase", "jobs", "examples", "epochs", "time", "FLOP", title="cost")
    for phase in summary.phases:
        table.add_row(
            "retraining" if phase.name == "final" else {"warmup": "warm-up", "round": "rounds"}[phase.name],
            str(phase.jobs),
            f"{phase.examples:,}",
            f"{phase.epochs:.2f}",
            f"{phase.seconds:.0f} s",
            f"{phase.flops:.2e}",
        )
    return table


def _result_table(summary: Summary) -> Table:
    table = Table("", "", title="result", show_header=False)
    table.add_row("model", summary.model)
    table.add_row("task", summary.task)
    if summary.parameters is not None and summary.budget_parameters is not None:
        table.add_row("parameters", f"{summary.parameters:,} (budget {summary.budget_parameters:,})")
        table.add_row("of the backbone", f"{summary.percent:.2f} % (budget {summary.budget})")
        table.add_row("task head", f"{summary.head_parameters:,}, not in the budget")
    for name, metrics in (("dev", summary.dev), ("test", summary.test)):
        for metric, value in metrics.items():
            table.add_row(f"{name} {metric}", f"{value:.4f}")
    final = next(phase for phase in summary.phases if phase.name == "final")
    table.add_row("search / retraining", f"{summary.search_epochs:.2f} / {final.epochs:.2f} epochs")
    table.add_row("folder", summary.folder)
    return table
