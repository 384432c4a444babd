"""``prunepeft simulate``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from prunepeft_ray.cli.options import TrustPlugins
from prunepeft_ray.cli.terminal import Terminal, put, put_json, say
from prunepeft_ray.events import Event
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.text import counted, duration_text

if TYPE_CHECKING:
    from prunepeft_ray.execution.simulation.estimate import Estimate

DEVICES = [1, 8, 64, 512]

Devices = Annotated[
    list[int], typer.Option(min=1, help="Number of GPUs, or of CPU workers, to run on; may be given several times.")
]
MeasuredRun = Annotated[
    str | None,
    typer.Option(
        "--costs",
        metavar="DIR",
        help="Folder of a run on the hardware in question, whose jobs tell how long a job takes; default: a few short "
        "jobs are trained on this machine.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the estimate as JSON; progress goes to standard error.")]


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(simulate)


def simulate(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study, as for 'prunepeft compare'.")],
    devices: Devices = DEVICES,
    costs: MeasuredRun = None,
    trust_plugins: TrustPlugins = False,
    as_json: AsJson = False,
) -> None:
    """Estimate how long a study takes on how many devices, without running it."""
    from prunepeft_ray.study import load_study

    spec = load_study(study)
    # errors in the file are reported before the slow import of torch
    from prunepeft_ray.execution.simulation.estimate import estimate_study

    run = None if costs is None else open_path(costs)
    found = estimate_study(spec, sorted(set(devices)), run, _say_message, trust_plugins)
    if as_json:
        put_json(found.to_dict())
    else:
        _print(found, study)


def _say_message(event: Event) -> None:
    say(event.text)


def _print(found: Estimate, study: Path) -> None:
    console, first = Terminal(), found.simulations[0]
    searches = len(first.searches)
    title = f"{study}: {searches} search{'' if searches == 1 else 'es'}, {counted(len(first.jobs), 'job')}"
    table = Table("devices", "duration", "device time", "utilisation", "limited by", title=title)
    for run in found.simulations:
        spent, share = duration_text(run.device_seconds), f"{run.utilisation:.0%}"
        table.add_row(f"{run.devices:,}", duration_text(run.makespan), spent, share, run.limit)
    console.print(table)
    methods = Table("method", "jobs", "device time", "share")
    for label, jobs in first.jobs_by_method.items():
        seconds = first.device_seconds_by_method[label]
        methods.add_row(label, f"{jobs:,}", duration_text(seconds), f"{seconds / first.device_seconds:.0%}")
    console.print(methods)
    for line in _notes(found):
        put(line)


def _notes(found: Estimate) -> list[str]:
    costs, first = found.costs, found.simulations[0]
    error = "" if math.isnan(costs.error) else f"; half of them are predicted within {costs.error:.0%}"
    failed = [f"{search.cell.title} fails: {search.reason}" for search in first.searches if search.state == "failed"]
    return [
        *failed,
        f"Durations: {costs.source}, {counted(costs.jobs, 'job')}{error}. The start of Ray is not included.",
        f"Methods took {duration_text(first.thinking)} of this machine to decide, which is included.",
        "Metrics are made up, and no training stops early: methods that adapt to results may train other jobs.",
    ]
