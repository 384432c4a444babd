"""``prunepeft track``, and ``--track`` of the commands that run searches."""

from __future__ import annotations

from typing import Annotated

import typer

from prunepeft_ray.cli.terminal import put
from prunepeft_ray.storage.paths import open_path

Track = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="TRACKER", help="Log the run to tensorboard, mlflow or wandb; repeatable."),
]


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(track)


def track(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder or URL of a search or study.")],
    to: Annotated[
        list[str],
        typer.Option("--to", metavar="TRACKER", help="Tracker: tensorboard, mlflow or wandb; repeatable."),
    ],
) -> None:
    """Log the results of a search or study so far to a tracker; nothing is logged twice."""
    from prunepeft_ray.results import RunFolder
    from prunepeft_ray.tracking import track

    track(RunFolder.open(open_path(folder)), to, put)
