"""``prunepeft track``, and ``--track`` of the commands that run something."""

from __future__ import annotations

from typing import Annotated

import typer

from prunepeft_ray.cli.terminal import put
from prunepeft_ray.storage.paths import open_path

Track = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="TRACKER", help="Log to tensorboard, mlflow or wandb meanwhile; repeatable."),
]


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(track)


def track(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of a search or study, or its URL.")],
    to: Annotated[list[str], typer.Option("--to", metavar="TRACKER", help="tensorboard, mlflow or wandb; repeatable.")],
) -> None:
    """Log what a search or a study has so far to a tracker; what it has already is not logged again."""
    from prunepeft_ray.results import RunFolder
    from prunepeft_ray.tracking import track

    track(RunFolder.open(open_path(folder)), to, put)
