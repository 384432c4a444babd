"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

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
