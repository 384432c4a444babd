"""``prunepeft cluster up``, ``status`` and ``down``: a cluster of several nodes on this machine, to try things out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from prunepeft_ray.cli.terminal import Terminal, put, put_json
from prunepeft_ray.errors import InputError

if TYPE_CHECKING:
    from prunepeft_ray.events import Event

cluster = typer.Typer(help="Start, look at and end a Ray cluster of several nodes on this machine, to try things out.")

NONE_RUNS = "no local cluster runs here; 'prunepeft cluster up --local 2' starts one"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(cluster, name="cluster", no_args_is_help=True)


@cluster.command()
def up(
    local: Annotated[int | None, typer.Option(metavar="N", help="Nodes to start on this machine.")] = None,
    cpus: Annotated[int | None, typer.Option(help="CPUs of each node; without, those of this machine.")] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs of the first node; without, those of this machine.")] = None,
) -> None:
    """Start a cluster of N nodes on this machine; it stays until 'prunepeft cluster down'."""
    from prunepeft_ray.cluster.local.start_stop import start_local_cluster
    from prunepeft_ray.text import counted

    if local is None:
        raise InputError(
            "--local N is missing: 'prunepeft cluster up --local 2' starts two nodes on this machine; for a cluster of "
            "several machines see docs/deployment.md"
        )
    started = start_local_cluster(local, cpus, gpus, _say)
    put(f"""\
a cluster of {counted(local, "node")} runs at {started.address}
it listens on this machine alone and asks for a token, which is in {started.token_file}
next:
  prunepeft submit FILE.yaml
  prunepeft jobs
  prunepeft cluster down""")


@cluster.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the nodes of the cluster on this machine."""
    from prunepeft_ray.cluster.local.nodes import node_states
    from prunepeft_ray.cluster.local.state import find_local_cluster

    found = find_local_cluster()
    nodes = node_states(found) if found else []
    if as_json:
        put_json({"address": found and found.address, "nodes": [asdict(node) for node in nodes]})
        return
    if found is None:
        put(NONE_RUNS)
        return
    table = Table("node", "state", "CPUs", "GPUs", title=f"local cluster at {found.address}")
    for node in nodes:
        name = "head" if node.is_head else node.node_id[:8]
        table.add_row(name, node.state.lower(), f"{node.cpus:g}", f"{node.gpus:g}")
    Terminal().print(table)


@cluster.command()
def down() -> None:
    """End the cluster that 'prunepeft cluster up' has started on this machine, and nothing else."""
    from prunepeft_ray.cluster.local.start_stop import stop_local_cluster

    ended = stop_local_cluster(_say)
    put(f"the local cluster at {ended.address} is gone" if ended else NONE_RUNS)


def _say(event: Event) -> None:
    put(event.text)
