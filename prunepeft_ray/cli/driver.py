"""Commands that the cluster runs for the service; not meant for users."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunepeft_ray.cli.compare import print_comparison
from prunepeft_ray.cli.report import print_summary
from prunepeft_ray.cli.streams import run_is_over
from prunepeft_ray.cli.study_progress import show_study
from prunepeft_ray.cli.terminal import Terminal


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (drive, pack):
        app.command(hidden=True)(command)


def drive(submission: Annotated[str, typer.Argument(help="A submission, as JSON.")]) -> None:
    """Run a submitted search job, and print its progress."""
    from prunepeft_ray.analysis import compare_study, summarise
    from prunepeft_ray.service import Submission
    from prunepeft_ray.service.driver import drive as run

    with show_study(Terminal(width=120)) as (emit, watch):
        folder = run(Submission.from_json(submission), emit, watch)
    with run_is_over(folder.path):
        if folder.is_study:
            print_comparison(compare_study(folder), as_json=False)
        else:
            print_summary(summarise(folder), as_json=False)


def pack(folder: str, name: str) -> None:
    """Pack a run's folder to where the job server serves files, and keep it there until the job is stopped."""
    from prunepeft_ray.cluster.session import logs_folder
    from prunepeft_ray.service.fetch import pack as run

    run(folder, name, Path(logs_folder()))
