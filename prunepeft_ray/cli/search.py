"""``prunepeft search`` and ``resume``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prunepeft_ray.cli.compare import resume_compare
from prunepeft_ray.cli.options import (
    EitherAddress,
    Encoding,
    Label,
    NoPool,
    Pool,
    RayAddress,
    Separator,
    Text,
    Text2,
    TrustPlugins,
    Workers,
    pool_named,
)
from prunepeft_ray.cli.progress import show_progress
from prunepeft_ray.cli.report import print_summary
from prunepeft_ray.cli.service import (
    Cpus,
    Gpus,
    Priority,
    ShipCode,
    Wait,
    connect,
    is_service,
    leaving,
    tell_started,
)
from prunepeft_ray.cli.streams import run_is_over
from prunepeft_ray.cli.terminal import Terminal, say
from prunepeft_ray.cli.track import Track
from prunepeft_ray.config import load_spec
from prunepeft_ray.errors import InputError
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.text import file_stem

AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON; progress goes to standard error.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(search)
    app.command()(resume)


def search(
    model: Annotated[str | None, typer.Option(help="Hub id, local folder, GGUF file or packaged:NAME.")] = None,
    task: Annotated[str | None, typer.Option(help="GLUE task, packaged:NAME, or a CSV, JSONL or Parquet file.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Maximum number of parameters (300000, 1.5M), or percentage of the backbone (1%)."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting; repeatable.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="Folder, or s3:// or gs:// URL, of the run; default: runs/MODEL-TASK-BUDGET-SEED."),
    ] = None,
    workers: Workers = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of the search.")] = None,
    address: RayAddress = None,
    text: Text = None,
    text2: Text2 = None,
    label: Label = None,
    dev: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="File with the dev split; default: held out from --task."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="File with the test split; default: held out from --task."),
    ] = None,
    encoding: Encoding = None,
    separator: Separator = None,
    pool: Pool = None,
    no_pool: NoPool = False,
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Search for the best PEFT architecture for a model, a task and a budget."""
    values: dict[str, Any] = {
        "model": model,
        "task": {
            "name": task,
            "text": text,
            "text2": text2,
            "label": label,
            "dev": dev,
            "test": test,
            "encoding": encoding,
            "separator": separator,
        },
        "budget": budget,
        "seed": seed,
    }
    named = pool_named(pool, no_pool)
    spec = load_spec(config, values, tuple(set_ or ()))
    from prunepeft_ray.analysis import summarise
    from prunepeft_ray.execution import start_search
    from prunepeft_ray.tracking import tracking

    folder = open_path(output) if output else default_output(spec.model, spec.task.name, spec.budget, spec.seed)
    with show_progress(Terminal(stderr=as_json)) as show, tracking(folder, track or (), show) as emit:
        run = start_search(spec, folder, emit, workers, address, pool=named)
    summary = summarise(run)
    with run_is_over(run.path):
        print_summary(summary, as_json)


def default_output(model: str, task: str, budget: str, seed: int) -> Path:
    """Name the folder of a run after its model, task, budget and seed."""
    parts = [part.split(":")[-1].rstrip("/").split("/")[-1] for part in (model, task)]
    named = (*parts, budget.replace("%", "pct").replace(" ", ""), f"seed{seed}")
    return Path("runs") / "-".join(map(file_stem, named))


def resume(
    folder: Annotated[
        str,
        typer.Argument(metavar="DIR|ID", help="Folder or URL of the run, or id of a search job on a cluster."),
    ],
    workers: Workers = None,
    address: EitherAddress = None,
    pool: Pool = None,
    no_pool: NoPool = False,
    track: Track = None,
    priority: Priority = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    ship_code: ShipCode = False,
    wait: Wait = False,
    trust_plugins: TrustPlugins = False,
    as_json: AsJson = False,
) -> None:
    """Resume an interrupted search, study or search job; finished training jobs are not run again."""
    named = pool_named(pool, no_pool)
    if is_service(folder, address):
        if track:
            raise InputError("--track: a search job keeps logging to the trackers it was submitted with")
        client = connect(address)
        with leaving("the submitted job"):
            job = client.resume(
                folder,
                workers=workers,
                priority=priority,
                cpus=cpus,
                gpus=gpus,
                pool=named,
                ship_code=ship_code,
                tell=say,
            )
        tell_started(client, job, wait, as_json)
        return
    if ship_code or wait or (priority, cpus, gpus) != (None, None, None):
        raise InputError("--priority, --cpus, --gpus, --ship-code and --wait are only for search jobs on a cluster")
    _resume_here(folder, workers, address, named, track, trust_plugins, as_json)


def _resume_here(
    folder: str,
    workers: int | None,
    address: str | None,
    pool: str | None,
    track: list[str] | None,
    trust_plugins: bool,
    as_json: bool,
) -> None:
    from prunepeft_ray.analysis import summarise
    from prunepeft_ray.execution import resume_search
    from prunepeft_ray.results import RunFolder
    from prunepeft_ray.tracking import tracking

    path = open_path(folder)
    if RunFolder.open(path).is_study:
        resume_compare(path, workers, address, pool, track, trust_plugins, as_json)
        return
    with show_progress(Terminal(stderr=as_json)) as show, tracking(path, track or (), show) as emit:
        run = resume_search(path, emit, workers, address, trust_plugins=trust_plugins, pool=pool)
    summary = summarise(run)
    with run_is_over(run.path):
        print_summary(summary, as_json)
