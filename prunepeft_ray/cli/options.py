"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from prunepeft_ray.errors import InputError

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
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of workers of a search; default: one per GPU, or 2 on CPUs. Results do not depend on it.",
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
