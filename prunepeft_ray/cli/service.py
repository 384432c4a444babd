"""``prunepeft submit``, ``jobs``, ``status``, ``logs``, ``stop`` and ``fetch``: search jobs on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from prunepeft_ray.cli.options import AsJson, DashboardAddress, NoPool, Pool, Workers, pool_named
from prunepeft_ray.cli.terminal import Terminal, put, put_json, put_log, say
from prunepeft_ray.cli.track import Track
from prunepeft_ray.errors import LeftRunningError

if TYPE_CHECKING:
    from prunepeft_ray.service import Client, SearchJob

Job = Annotated[str, typer.Argument(metavar="ID", help="Id of the search job, or an unambiguous prefix of it.")]
Priority = Annotated[
    int | None,
    typer.Option(
        help="Priority from -10 to 10: higher ones start first, and each step doubles the job's share of the cluster."
    ),
]
Cpus = Annotated[float | None, typer.Option(help="Maximum number of CPUs the job's workers may use at once.")]
Gpus = Annotated[float | None, typer.Option(help="Maximum number of GPUs the job's workers may use at once.")]
ShipCode = Annotated[
    bool, typer.Option("--ship-code", help="Run the prunepeft_ray of this machine instead of the cluster's own.")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Print the job's output until it ends, then exit with its exit code.")
]

PLAIN_WIDTH = 160


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (submit, jobs, status, logs, stop, fetch):
        app.command()(command)


def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="Settings of a search or study.")],
    output: Annotated[
        str | None,
        typer.Option(
            help="Folder of the run as the cluster sees it: an absolute path shared by all nodes, or an s3:// or gs:// "
            "URL."
        ),
    ] = None,
    address: DashboardAddress = None,
    name: Annotated[str | None, typer.Option(help="Name of the job, and start of its id; default: the file's.")] = None,
    owner: Annotated[str | None, typer.Option(help="Owner of the job; default: your user name.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one setting of a search; repeatable."),
    ] = None,
    workers: Workers = None,
    priority: Priority = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    pool: Pool = None,
    no_pool: NoPool = False,
    track: Track = None,
    ship_code: ShipCode = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Submit a search or study to a Ray cluster, where it runs independently of this machine."""
    from prunepeft_ray.cluster import Terms

    terms, named = Terms("", priority or 0, cpus, gpus), pool_named(pool, no_pool)
    client = connect(address)
    with leaving("the submitted job"):
        job = client.submit(
            file,
            output=output,
            name=name,
            owner=owner,
            settings=tuple(set_ or ()),
            workers=workers,
            terms=terms,
            track=tuple(track or ()),
            pool=named,
            ship_code=ship_code,
            tell=say,
        )
    tell_started(client, job, wait, as_json)


def jobs(
    address: DashboardAddress = None,
    owner: Annotated[str | None, typer.Option(help="List only the jobs of this owner.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the search jobs of a cluster, newest first."""
    found = [job for job in connect(address).jobs() if owner is None or job.submission.owner == owner]
    if as_json:
        put_json([job.to_dict() for job in found])
        return
    if not found:
        say("no search jobs; submit one with 'prunepeft submit FILE.yaml'")
        return
    wide_console().print(_jobs_table(found))


def status(job: Job, address: DashboardAddress = None, as_json: AsJson = False) -> None:
    """Show the status of a search job, and what to type next."""
    found = connect(address).status(job)
    if as_json:
        put_json(found.to_dict())
        return
    wide_console().print(_status_table(found))
    for line in _next_steps(found):
        put(line)


def logs(
    job: Job,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the job ends.")] = False,
    address: DashboardAddress = None,
) -> None:
    """Print the output of a search job."""
    client = connect(address)
    if not follow:
        put_log(client.logs(job).removesuffix("\n"))
        return
    with leaving(job):
        for line in client.follow(job):
            put_log(line)


def stop(job: Job, address: DashboardAddress = None) -> None:
    """Stop a search job, saving checkpoints of running training jobs; 'prunepeft resume ID' resumes it."""
    client = connect(address)
    before = client.status(job)
    if before.over:
        say(f"{before.id} has already ended: {before.state}")
        return
    say(f"stopping {before.id}: saving checkpoints of running training jobs")
    found = client.stop(before.id)
    hint = f"; resume it with 'prunepeft resume {found.id}'" if found.state != "finished" else ""
    say(f"{found.id} is {found.state}{hint}")


def fetch(
    job: Job,
    output: Annotated[str | None, typer.Option(help="Folder to download to; default: runs/ID.")] = None,
    address: DashboardAddress = None,
) -> None:
    """Download a search job's results so far: measurements, architecture and adapter, without checkpoints."""
    folder = connect(address).fetch(job, output, say)
    say(f"view the results with 'prunepeft report {folder}'")


def connect(address: str | None) -> Client:
    """Connect to a cluster.

    Raises:
        InputError: If the address is not that of a cluster's dashboard, or the token is missing or wrong.
        RunError: If the cluster does not answer.
    """
    from prunepeft_ray.service import Client

    return Client(address)


def is_service(which: str, address: str | None) -> bool:
    """Whether a search job on a cluster is meant, rather than the folder or URL of a run.

    Args:
        which: What the user typed: an id, a prefix of one, a folder or a URL.
        address: DashboardAddress of the cluster, if one is given.
    """
    from prunepeft_ray.cluster.address import is_dashboard, is_named
    from prunepeft_ray.service.ids import is_id

    # the folder of a run that its cluster has lost is resumed there as well
    if address is not None and is_dashboard(address):
        return True
    return "/" not in which and not Path(which).exists() and (is_id(which) or (address is None and is_named()))


def tell_started(client: Client, job: SearchJob, wait: bool, as_json: bool) -> None:
    """Print the id of a submitted job and what to type next; with ``wait``, follow the job until it ends."""
    if wait:
        say(f"{job.id} was submitted to {client.address}; Ctrl-C leaves it running there")
        with leaving(job.id):
            for line in client.follow(job.id):
                put_log(line)
            job = client.wait(job.id)
    if as_json:
        put_json(job.to_dict())
    else:
        put(job.id)
        for line in _next_steps(job):
            say(line)
    if wait and job.state != "finished":
        say(f"error: {job.id} is {job.state}{': ' if job.error else ''}{job.error}")
        raise typer.Exit(job.exit_code or 1)


@contextmanager
def leaving(what: str) -> Iterator[None]:
    """Tell a user who presses Ctrl-C that the job keeps running on the cluster.

    Args:
        what: What keeps running, for the message.

    Raises:
        LeftRunningError: Instead of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise LeftRunningError(
            f"interrupted; {what} keeps running on the cluster: 'prunepeft jobs' lists it, 'prunepeft stop ID' stops it"
        ) from error


def wide_console() -> Terminal:
    """A console for wide tables: as wide as the terminal, and of a fixed width where there is none."""
    console = Terminal()
    return console if console.is_terminal else Terminal(width=PLAIN_WIDTH)


def _next_steps(job: SearchJob) -> list[str]:
    steps = {
        "finished": f"finished: 'prunepeft report {job.id}' shows the results, 'prunepeft fetch {job.id}' downloads "
        "them",
        "failed": f"failed: {job.error}; 'prunepeft logs {job.id}' shows details, 'prunepeft resume {job.id}' retries",
        "stopped": f"stopped: 'prunepeft resume {job.id}' resumes it",
        "waiting": f"{job.status.waits_for}; 'prunepeft status {job.id}' shows when it starts",
    }
    default = f"{job.state}: 'prunepeft logs {job.id} -f' follows its output, 'prunepeft stop {job.id}' stops it"
    return [steps.get(job.state, default)]


def _jobs_table(found: list[SearchJob]) -> Table:
    table = Table(title="search jobs")
    for heading in ("id", "name", "owner", "kind", "state", "progress", "best so far", "started", "resources"):
        table.add_column(heading, no_wrap=heading in ("id", "state"))
    for job in found:
        asked = job.submission
        cells = (job.id, asked.name, asked.owner, asked.kind, job.state, job.status.progress, job.status.best)
        table.add_row(*cells, _ago(job.started), _resources(job))
    return table


def _status_table(job: SearchJob) -> Table:
    from prunepeft_ray.text import amount

    asked = job.submission
    limits = [f"at most {amount(limit, kind)}" for kind, limit in (("CPU", asked.cpus), ("GPU", asked.gpus)) if limit]
    rows = {
        "name": asked.name,
        "owner": asked.owner,
        "kind": asked.kind,
        "state": job.state,
        "waiting for": job.status.waits_for.removeprefix("waiting for ") if job.state == "waiting" else "",
        "error": job.error,
        "progress": job.status.progress,
        "best so far": job.status.best,
        "resources": _resources(job),
        "priority": ", ".join([str(asked.priority), *limits]),
        "output": asked.output,
        "attempt": f"{asked.attempt}, submitted {asked.submitted_at}",
        "started": _time(job.started),
        "ended": _time(job.ended) if job.ended else "",
    }
    table = Table(title=job.id, show_header=False)
    for key, value in rows.items():
        if value:
            table.add_row(key, value)
    return table


def _resources(job: SearchJob) -> str:
    from prunepeft_ray.text import amount

    if job.over:
        return ""
    held = (("CPU", job.status.cpus), ("GPU", job.status.gpus))
    return ", ".join(amount(number, kind) for kind, number in held if number) or "none yet"


def _time(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _ago(moment: datetime) -> str:
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
