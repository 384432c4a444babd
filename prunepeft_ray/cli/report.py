"""``prunepeft report``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunepeft_ray.cli.compare import print_comparison, write_comparison, write_text
from prunepeft_ray.cli.options import DashboardAddress
from prunepeft_ray.cli.service import connect, is_service
from prunepeft_ray.cli.terminal import Terminal, put_json, say
from prunepeft_ray.errors import InputError
from prunepeft_ray.storage.paths import open_path

if TYPE_CHECKING:
    from prunepeft_ray.analysis import Results, Summary
    from prunepeft_ray.results import RunFolder

Folders = Annotated[
    list[str],
    typer.Argument(
        metavar="DIR|ID...",
        help="Folder or URL of a run or study, or id of a search job on a cluster; several are compared.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        help="File to write instead of DIR/report.html: a page (.html), a drawing of the architecture that a search "
        "found (.svg), or a document about a study (.md)."
    ),
]
Watching = Annotated[bool, typer.Option("--watch", help="Rewrite the page until the run has finished.")]
Every = Annotated[int, typer.Option(min=1, help="With --watch: seconds between updates of the page.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; no file is written without --output.")]


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(report)


def report(
    folders: Folders,
    output: Output = None,
    watch: Watching = False,
    every: Every = 30,
    address: DashboardAddress = None,
    as_json: AsJson = False,
) -> None:
    """Write a page with the results and costs of a run or study, and every table as CSV, Markdown and LaTeX."""
    from prunepeft_ray.results import RunFolder

    folders = [_folder(which, address) for which in folders]
    runs = [RunFolder.open(open_path(folder)) for folder in folders]
    endings = _endings(runs)
    if output is not None and Path(output).suffix not in endings:
        raise InputError(f"--output {output}: expected a file name ending in {' or '.join(endings)}")
    if watch and (as_json or (output is not None and Path(output).suffix != ".html")):
        raise InputError("--watch writes a page: expected no --json, and an --output ending in .html, if any")
    if watch:
        _watch(folders, _page(folders, output), every)
        return
    opened = _opened(folders)
    if len(opened) == 1:
        _print(opened[0], as_json)
    if output is not None and Path(output).suffix == ".md":
        write_comparison(opened[0], Path(output))
    elif output is not None and Path(output).suffix == ".svg":
        _draw(opened[0], Path(output))
    elif output is not None or not as_json:
        _write(opened, _page(folders, output))
        return
    _tell(*(damage.text for results in opened for damage in results.damaged))


def _folder(which: str, address: str | None) -> str:
    """The folder of a run; that of a search job on a cluster may have to be downloaded first."""
    if address is None and not is_service(which, address):
        return which
    return str(connect(address).folder(which, say))


def _print(results: Results, as_json: bool) -> None:
    """Print the results of a search or a study so far, as tables or as JSON."""
    from prunepeft_ray.analysis import summarise

    if results.is_study:
        print_comparison(results.comparison, as_json)
    else:
        print_summary(summarise(results.run, results), as_json)


def print_summary(summary: Summary, as_json: bool) -> None:
    """Print the results of a search so far, as tables or as JSON."""
    from prunepeft_ray.report import summary_tables

    if as_json:
        put_json(summary.to_dict())
        return
    console = Terminal()
    for table in summary_tables(summary):
        console.print(table)


def _endings(runs: Sequence[RunFolder]) -> tuple[str, ...]:
    if len(runs) > 1:
        return (".html",)
    return (".html", ".md") if runs[0].is_study else (".html", ".svg")


def _opened(folders: Sequence[str]) -> list[Results]:
    """Open runs, and merge their files so that they open faster next time."""
    from prunepeft_ray.analysis import open_several

    runs = open_several(folders)
    for results in runs:
        results.compact()
    return runs


def _page(folders: Sequence[str], output: str | None) -> Path:
    if output is not None:
        return open_path(output)
    return open_path(folders[0]) / "report.html" if len(folders) == 1 else Path("report.html")


def _write(runs: Sequence[Results], page: Path, refresh: int | None = None) -> bool:
    """Write a page and print its name; returns whether the runs have finished."""
    from prunepeft_ray.report import write_report

    written = write_report(runs, page, refresh)
    _tell(*written.warnings, f"wrote {page}, and its tables to {page.with_suffix('')}")
    return written.finished


def _tell(*lines: str) -> None:
    for line in lines:
        say(line)


def _watch(folders: Sequence[str], page: Path, every: int) -> None:
    while not _write(_opened(folders), page, every):
        time.sleep(every)


def _draw(results: Results, output: Path) -> None:
    from prunepeft_ray.analysis import summarise
    from prunepeft_ray.report import summary_svg

    write_text(output, summary_svg(summarise(results.run, results)))
    say(f"wrote {output}")
