"""``prunepeft cluster up``, ``status`` and ``down``: a test cluster of several nodes on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from prunepeft_ray.cli.options import AsJson
from prunepeft_ray.cli.terminal import Terminal, put, put_json
from prunepeft_ray.errors import InputError

if TYPE_CHECKING:
    from prunepeft_ray.events import Event

cluster = typer.Typer(help="Start, inspect and stop a test cluster of several Ray nodes on this machine.")

NOT_RUNNING = "no local cluster is running; start one with 'prunepeft cluster up --local 2'"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(cluster, name="cluster", no_args_is_help=True)


@cluster.command()
def up(
    local: Annotated[int | None, typer.Option(metavar="N", help="Number of nodes to start.")] = None,
    cpus: Annotated[int | None, typer.Option(help="CPUs per node; default: all CPUs of this machine.")] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs of the head node; default: all GPUs of this machine.")] = None,
) -> None:
    """Start a cluster of N nodes on this machine; it runs until 'prunepeft cluster down'."""
    from prunepeft_ray.cluster.local.start_stop import start_local_cluster
    from prunepeft_ray.text import counted

    if local is None:
        raise InputError(
            "--local N is missing: 'prunepeft cluster up --local 2' starts two nodes on this machine; for a cluster of "
            "several machines, see docs/deployment.md"
        )
    started = start_local_cluster(local, cpus, gpus, _say)
    put(f"""\
a cluster of {counted(local, "node")} is running at {started.address}
it listens only on this machine and requires the token in {started.token_file}
next:
  prunepeft submit FILE.yaml
  prunepeft jobs
  prunepeft cluster down""")


@cluster.command()
def status(as_json: AsJson = False) -> None:
    """Show the nodes of the local cluster."""
    from prunepeft_ray.cluster.local.nodes import node_states
    from prunepeft_ray.cluster.local.state import find_local_cluster

    found = find_local_cluster()
    nodes = node_states(found) if found else []
    if as_json:
        put_json({"address": found and found.address, "nodes": [asdict(node) for node in nodes]})
        return
    if found is None:
        put(NOT_RUNNING)
        return
    table = Table("node", "state", "CPUs", "GPUs", title=f"local cluster at {found.address}")
    for node in nodes:
        name = "head" if node.is_head else node.node_id[:8]
        table.add_row(name, node.state.lower(), f"{node.cpus:g}", f"{node.gpus:g}")
    Terminal().print(table)


@cluster.command()
def down() -> None:
    """Stop the cluster that 'prunepeft cluster up' started on this machine, and nothing else."""
    from prunepeft_ray.cluster.local.start_stop import stop_local_cluster

    stopped = stop_local_cluster(_say)
    put(f"stopped the local cluster at {stopped.address}" if stopped else NOT_RUNNING)


def _say(event: Event) -> None:
    put(event.text)
