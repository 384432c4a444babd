"""``prunepeft compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunepeft_ray.cli.options import NoPool, Pool, RayAddress, Workers, check_workers, pool_named
from prunepeft_ray.cli.streams import run_is_over
from prunepeft_ray.cli.study_progress import show_study
from prunepeft_ray.cli.terminal import Terminal, put_json, say
from prunepeft_ray.cli.track import Track
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.text import readable

if TYPE_CHECKING:
    from prunepeft_ray.analysis import Comparison, Results

AsJson = Annotated[bool, typer.Option("--json", help="Print the comparison as JSON; progress goes to standard error.")]


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(compare)


def compare(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="Methods, tasks, models, seeds and budget.")],
    output: Annotated[
        str | None, typer.Option(help="Folder, or s3:// or gs:// URL, of the study; default: runs/NAME of the file.")
    ] = None,
    workers: Workers = None,
    address: RayAddress = None,
    pool: Pool = None,
    no_pool: NoPool = False,
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Compare search methods on equal terms; an existing study is resumed, running only what is missing."""
    from prunepeft_ray.study import load_study

    check_workers(workers, address)
    named = pool_named(pool, no_pool)
    spec = load_study(study)
    # errors in the file are reported before the slow import of torch
    from prunepeft_ray.analysis import compare_study
    from prunepeft_ray.execution import start_study
    from prunepeft_ray.tracking import tracking

    folder = open_path(output) if output else Path("runs") / study.stem
    with show_study(Terminal(stderr=as_json)) as (show, watch), tracking(folder, track or (), show) as emit:
        run = start_study(spec, folder, emit, watch, address, workers=workers, pool=named)
    comparison = compare_study(run)
    with run_is_over(folder):
        print_comparison(comparison, as_json)


def resume_compare(
    folder: Path,
    workers: int | None,
    address: str | None,
    pool: str | None,
    track: list[str] | None,
    trust_plugins: bool,
    as_json: bool,
) -> None:
    """Resume a study, and print the comparison."""
    check_workers(workers, address)
    from prunepeft_ray.analysis import compare_study
    from prunepeft_ray.execution import resume_study
    from prunepeft_ray.tracking import tracking

    with show_study(Terminal(stderr=as_json)) as (show, watch), tracking(folder, track or (), show) as emit:
        run = resume_study(folder, emit, watch, address, trust_plugins=trust_plugins, workers=workers, pool=pool)
    comparison = compare_study(run)
    with run_is_over(folder):
        print_comparison(comparison, as_json)


def print_comparison(comparison: Comparison, as_json: bool) -> None:
    """Print the results of a study so far, as tables or as JSON."""
    from prunepeft_ray.report import comparison_tables

    if as_json:
        put_json(comparison.to_dict())
        return
    console = Terminal()
    for table in comparison_tables(comparison):
        console.print(table)


def write_comparison(results: Results, output: Path) -> None:
    """Write a comparison as a Markdown document, and its numbers as CSV files in a folder of the same name beside it.

    Raises:
        RunError: If it cannot be written.
    """
    from prunepeft_ray.report import comparison_markdown, write_csv

    jobs = results["jobs"]
    versions, hardware = (dict(jobs[name].iloc[-1]) if len(jobs) else {} for name in ("versions", "hardware"))
    command = f"prunepeft compare {results.run.path / 'spec.yaml'}"
    write_text(output, comparison_markdown(results.comparison, command, versions, hardware))
    files = write_csv(results.comparison, output.with_suffix(""))
    say(f"wrote {', '.join(map(str, (output, *files)))}")


def write_text(file: Path, text: str) -> None:
    """Write a text to a file in an existing folder.

    Raises:
        RunError: If the file cannot be written.
    """
    from prunepeft_ray.errors import RunError

    try:
        file.write_text(readable(text), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{file} cannot be written: {error.strerror}") from error
