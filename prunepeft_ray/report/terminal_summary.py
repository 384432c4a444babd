"""The summary of a run as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from prunepeft_ray.analysis.summary import Summary
from prunepeft_ray.report.architecture_drawing import architecture_table, kinds_of, layers_of_blocks
from prunepeft_ray.report.labels import PHASES
from prunepeft_ray.text import duration_text


def summary_tables(summary: Summary) -> list[RenderableType]:
    """Return the summary of a run as tables: strategy, rounds, architecture, cost and result.

    Args:
        summary: The summary; for an unfinished run, of the results so far.
    """
    tables = []
    if summary.strategy:
        tables.append(_strategy_table(summary))
    if summary.removals:
        tables.append(_rounds_table(summary))
    if summary.found is not None:
        tables.append(architecture_table(summary))
    tables += [_cost_table(summary), _result_table(summary)]
    for column in (column for table in tables for column in table.columns):
        # a narrow console wraps cells instead of cropping them
        column.overflow = "fold"
    parts: list[RenderableType] = [*tables]
    if not summary.finished:
        missing = [*(PHASES[phase.name] for phase in summary.phases if not phase.jobs), "the architecture"]
        parts.append(
            Text(f"not finished: {', '.join(missing)} still missing; resume with 'prunepeft resume {summary.folder}'")
        )
    return parts


def criteria_text(criteria: Sequence[str], known: Sequence[str]) -> str:
    """List criteria, abbreviated to "all 5" or "all but NAME" where that fits.

    Args:
        criteria: The criteria to list.
        known: All criteria of the search.
    """
    left_out = [name for name in known if name not in criteria]
    if len(known) > 2 and not left_out:
        return f"all {len(known)}"
    if len(known) > 3 and len(left_out) == 1:
        return f"all but {left_out[0]}"
    return ", ".join(criteria)


def _strategy_table(summary: Summary) -> Table:
    kinds = sorted({partition.split(".")[1] for partition in summary.strategy})
    blocks = sorted({int(partition.split(".")[0]) for partition in summary.strategy}, reverse=True)
    layers = layers_of_blocks(summary.blocks)
    silent = f"{', '.join(summary.abstained)} abstained: the same value for every slot" if summary.abstained else None
    table = Table("block", "layers", *kinds, title="criteria that score each slot", caption=silent)
    for block in blocks:
        within = layers[block] if block < len(layers) else range(0)
        span = "–".join(str(layer) for layer in sorted({*within[:1], *within[-1:]}))
        cells = [criteria_text(summary.strategy.get(f"{block}.{kind}", ()), summary.criteria) for kind in kinds]
        table.add_row(str(block), span, *(Text(cell) for cell in cells))
    return table


def _rounds_table(summary: Summary) -> Table:
    table = Table("round", "removed (probability of being pruned)", title="pruning")
    for number in sorted({removal.round for removal in summary.removals}):
        gone = [f"{r.slot} ({r.probability:.3f})" for r in summary.removals if r.round == number]
        table.add_row(str(number), ", ".join(gone))
    return table


def _cost_table(summary: Summary) -> Table:
    table = Table("", title="cost", caption="epochs: passes over the training split")
    for phase in summary.phases:
        table.add_column(PHASES[phase.name], justify="right")
    table.add_row("jobs", *(str(phase.jobs) for phase in summary.phases))
    table.add_row("examples", *(f"{phase.examples:,}" for phase in summary.phases))
    table.add_row("epochs", *(f"{phase.epochs:.2f}" for phase in summary.phases))
    table.add_row("time", *(duration_text(phase.seconds) for phase in summary.phases))
    table.add_row("FLOP", *(f"{phase.flops:.1e}" for phase in summary.phases))
    if any(phase.reused for phase in summary.phases):
        table.add_row("of the jobs, reused", *(f"{phase.reused:,}" for phase in summary.phases))
    if any(phase.redone for phase in summary.phases):
        table.add_row("redone examples", *(f"{phase.redone:,}" for phase in summary.phases))
    return table


def _result_table(summary: Summary) -> Table:
    table = Table("", "", title="result", show_header=False)

    def add(name: str, text: str) -> None:
        table.add_row(Text(name), Text(text))

    add("model", summary.model)
    add("task", summary.task)
    if summary.found is not None and summary.supernet is not None:
        kept = [
            f"{kind} {sum(slot.kind == kind for slot in summary.found.slots)}" for kind in kinds_of(summary.supernet)
        ]
        add("slots kept", f"{len(summary.found)} of {len(summary.supernet)} ({', '.join(kept)})")
    if summary.parameters is not None and summary.budget_parameters is not None:
        add("parameters", f"{summary.parameters:,} (budget {summary.budget_parameters:,})")
        add("of the backbone", f"{summary.percent:.2f} % (budget {summary.budget})")
        add("task head", f"{summary.head_parameters:,}, not in the budget")
    else:
        add("budget", summary.budget)
    names = dict.fromkeys([*summary.dev, *summary.test])
    for name in sorted(names, key=lambda name: (name != summary.metric, name == "loss")):
        splits = (("dev", summary.dev), ("test", summary.test))
        add(name, ", ".join(f"{split} {values[name]:.4f}" for split, values in splits if name in values))
    final = next(phase for phase in summary.phases if phase.name == "final")
    add("search / retraining", f"{summary.search_epochs:.2f} / {final.epochs:.2f} epochs")
    add("folder", summary.folder)
    return table
