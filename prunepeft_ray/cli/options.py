"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from prunepeft_ray.errors import InputError, quoted


def parse_workers(text: str) -> int | None:
    """Parse the value of ``--workers``; None stands for ``auto``.

    Raises:
        InputError: If it is neither ``auto`` nor a number from 1.
    """
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise InputError(f"--workers {quoted(text)}: expected auto, or a number from 1, such as --workers 2")
    return int(text)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Text = Annotated[str | None, typer.Option("--text", metavar="COLUMN", help="Column of the text in the file.")]
Text2 = Annotated[
    str | None, typer.Option("--text2", metavar="COLUMN", help="Column of the second text, for pairs of texts.")
]
Label = Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="Column of the label in the file.")]
Encoding = Annotated[str | None, typer.Option(help="Encoding of the file, such as utf-16; default: detected.")]
Separator = Annotated[
    str | None, typer.Option(help="Column separator of a CSV file: a character, or tab; default: detected.")
]
TrustPlugins = Annotated[
    bool,
    typer.Option(
        "--trust-plugins",
        help="Import the plugins named in the folder's spec even if you have never used them on this machine.",
    ),
]


def check_workers(workers: int | None, address: str | None) -> None:
    """Check the ``--workers`` of a study.

    Raises:
        InputError: If it is given for a cluster, where each job of a study has its own workers.
    """
    if workers is not None and address is not None:
        raise InputError(
            "--workers is for this machine: on a cluster, a study runs as many jobs as there is room for; set the "
            "workers of a job with execution.workers in its file"
        )


Workers = Annotated[
    int | None,
    typer.Option(
        parser=parse_workers,
        metavar="N|auto",
        help="Number of workers of a search, or of jobs of a study at once; 1 runs in this process, without Ray. "
        "Default: auto, by the amount of work. Results do not depend on it.",
    ),
]
Pool = Annotated[
    str | None,
    typer.Option(
        help="Folder, or s3:// or gs:// URL, of finished training jobs that all runs share, so that none is trained "
        "twice; default: $PRUNEPEFT_POOL, or ~/.cache/prunepeft/jobs if the run has a cluster of its own."
    ),
]
NoPool = Annotated[bool, typer.Option("--no-pool", help="Train every job, and share none with other runs.")]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Ray cluster to join, by Ray's own address: auto, HEAD:6379 or ray://HEAD:10001; default: start one on "
        "this machine.",
    ),
]
DashboardAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Ray cluster to talk to, by its dashboard: http://HEAD:8265; default: $RAY_API_SERVER_ADDRESS, or the "
        "cluster started by 'prunepeft cluster up'.",
    ),
]
EitherAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Ray cluster: for a search job by its dashboard, http://HEAD:8265; for a folder by Ray's own address, "
        "auto, HEAD:6379 or ray://HEAD:10001.",
    ),
]


def pool_named(pool: str | None, no_pool: bool) -> str | None:
    """Return the pool that two options name: a folder or URL, ``"off"``, or None for the default.

    Raises:
        InputError: If both are given.
    """
    if pool is not None and no_pool:
        raise InputError("--pool and --no-pool exclude each other: give one of them")
    return "off" if no_pool else pool
