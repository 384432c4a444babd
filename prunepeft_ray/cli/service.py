"""``prunepeft submit``, ``jobs``, ``status``, ``logs``, ``stop`` and ``fetch``: search jobs on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from prunepeft_ray.cli.terminal import Terminal, put, put_json, put_log, say
from prunepeft_ray.cli.track import Track
from prunepeft_ray.errors import LeftRunningError

if TYPE_CHECKING:
    from prunepeft_ray.service import Client, SearchJob

Address = Annotated[
    str | None,
    typer.Option(
        help="Dashboard of the cluster, http://HEAD:8265; default: RAY_API_SERVER_ADDRESS, or the cluster that "
        "'prunepeft cluster up' has started here."
    ),
]
Job = Annotated[str, typer.Argument(metavar="ID", help="The search job's id, or a beginning of it.")]
Priority = Annotated[
    int | None,
    typer.Option(help="From -10 to 10: who is higher begins first, and gets twice the share for each step."),
]
Cpus = Annotated[float | None, typer.Option(help="Most CPUs that the job's workers may have at once.")]
Gpus = Annotated[float | None, typer.Option(help="Most GPUs that the job's workers may have at once.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Workers of a search; default: every GPU, or 2 on CPUs.")]
ShipCode = Annotated[
    bool, typer.Option("--ship-code", help="Send this machine's prunepeft_ray along, instead of the cluster's own.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Show what it prints, and end when it ends, with its exit code.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

PLAIN_WIDTH = 160


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (submit, jobs, status, logs, stop, fetch):
        app.command()(command)


def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="Settings of a search, or a study.")],
    output: Annotated[
        str | None,
        typer.Option(
            help="Folder of the run as the cluster sees it: a whole path that all nodes share, or s3://, gs://."
        ),
    ] = None,
    address: Address = None,
    name: Annotated[str | None, typer.Option(help="Name for people; default: the file's.")] = None,
    owner: Annotated[str | None, typer.Option(help="Whose it is; default: you.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting of a search; repeatable.")
    ] = None,
    workers: Workers = None,
    priority: Priority = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    track: Track = None,
    ship_code: ShipCode = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Submit a search or a study to a Ray cluster; it goes on there, whatever becomes of this machine."""
    from prunepeft_ray.cluster import Terms

    terms = Terms("", priority or 0, cpus, gpus)
    client = connect(address)
    with leaving("what was submitted"):
        job = client.submit(
            file,
            output=output,
            name=name,
            owner=owner,
            settings=tuple(set_ or ()),
            workers=workers,
            terms=terms,
            track=tuple(track or ()),
            ship_code=ship_code,
            tell=say,
        )
    tell_started(client, job, wait, as_json)


def jobs(
    address: Address = None,
    owner: Annotated[str | None, typer.Option(help="Only those of this owner.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the search jobs of a cluster, the newest first."""
    found = [job for job in connect(address).jobs() if owner is None or job.submission.owner == owner]
    if as_json:
        put_json([job.to_dict() for job in found])
        return
    if not found:
        say("no search jobs: 'prunepeft submit FILE.yaml' submits one")
        return
    wide_console().print(_jobs_table(found))


def status(job: Job, address: Address = None, as_json: AsJson = False) -> None:
    """Tell how a search job stands, and what to type next."""
    found = connect(address).status(job)
    if as_json:
        put_json(found.to_dict())
        return
    wide_console().print(_status_table(found))
    for line in _next_steps(found):
        put(line)


def logs(
    job: Job,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    address: Address = None,
) -> None:
    """Print what a search job prints."""
    client = connect(address)
    if not follow:
        put_log(client.logs(job).removesuffix("\n"))
        return
    with leaving(job):
        for line in client.follow(job):
            put_log(line)


def stop(job: Job, address: Address = None) -> None:
    """Ask a search job to keep its state and end; 'prunepeft resume ID' goes on with it."""
    client = connect(address)
    before = client.status(job)
    if before.over:
        say(f"{before.id} has ended already: {before.state}")
        return
    say(f"stopping {before.id}: running training jobs keep their state")
    found = client.stop(before.id)
    again = f"; 'prunepeft resume {found.id}' goes on" if found.state != "finished" else ""
    say(f"{found.id} is {found.state}{again}")


def fetch(
    job: Job,
    output: Annotated[str | None, typer.Option(help="Folder to put it into; default: runs/ID.")] = None,
    address: Address = None,
) -> None:
    """Bring home what a search job has so far: results, architecture and adapter, without checkpoints."""
    folder = connect(address).fetch(job, output, say)
    say(f"'prunepeft report {folder}' shows it")


def connect(address: str | None) -> Client:
    """Connect to a cluster.

    Raises:
        InputError: If there is none of that address, or the token is missing or wrong.
        RunError: If it does not answer.
    """
    from prunepeft_ray.service import Client

    return Client(address)


def is_service(which: str, address: str | None) -> bool:
    """Whether a search job of a cluster is meant rather than a run's folder that this machine is to work on.

    Args:
        which: What the user wrote: an id, or a beginning of one, or a folder.
        address: A cluster's address, if one is given.
    """
    if address is not None:
        return address.startswith(("http://", "https://"))
    if "/" in which or Path(which).exists():
        return False
    from prunepeft_ray.cluster.address import is_named
    from prunepeft_ray.service.ids import is_id

    return is_id(which) or is_named()


def tell_started(client: Client, job: SearchJob, wait: bool, as_json: bool) -> None:
    """Say what became of a submission, and follow it to its end if that is wished."""
    if wait:
        say(f"{job.id} is on {client.address}; Ctrl-C leaves it running there")
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
    """Say at Ctrl-C that a job goes on without whoever watches it.

    Raises:
        LeftRunningError: Instead of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise LeftRunningError(
            f"interrupted; {what} stays on the cluster: 'prunepeft jobs' shows it, 'prunepeft stop ID' ends it"
        ) from error


def wide_console() -> Terminal:
    """A console for tables of many columns: as wide as the terminal, and wider where nobody looks at it."""
    console = Terminal()
    return console if console.is_terminal else Terminal(width=PLAIN_WIDTH)


def _next_steps(job: SearchJob) -> list[str]:
    steps = {
        "finished": f"finished: 'prunepeft report {job.id}' shows what was found, 'prunepeft fetch {job.id}' brings it",
        "failed": f"failed: {job.error}; 'prunepeft logs {job.id}' has more, 'prunepeft resume {job.id}' goes on",
        "stopped": f"stopped: 'prunepeft resume {job.id}' goes on",
        "waiting": f"{job.status.waits_for}; 'prunepeft status {job.id}' tells when it runs",
    }
    default = f"{job.state}: 'prunepeft logs {job.id} -f' shows what it does, 'prunepeft stop {job.id}' ends it"
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
    limits = [f"at most {amount(most, kind)}" for kind, most in (("CPU", asked.cpus), ("GPU", asked.gpus)) if most]
    rows = {
        "name": asked.name,
        "owner": asked.owner,
        "kind": asked.kind,
        "state": job.state,
        "waits for": job.status.waits_for.removeprefix("waiting for ") if job.state == "waiting" else "",
        "why": job.error,
        "progress": job.status.progress,
        "best so far": job.status.best,
        "resources": _resources(job),
        "priority": ", ".join([str(asked.priority), *limits]),
        "output": asked.output,
        "attempt": f"{asked.attempt}, of {asked.submitted_at}",
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
