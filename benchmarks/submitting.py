"""The time until a cluster accepts a search job, the memory of its driver, and the time to list jobs.

The peer is a bare Ray job that joins the cluster and imports torch and transformers, timed from submission until it
reports that it has done so.
"""

import os
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil
from rich.console import Console
from rich.table import Table

from prunepeft_ray import Client
from prunepeft_ray.cluster.local.start_stop import start_local_cluster, stop_local_cluster

REPEATS = 3
SEARCH = """\
model: packaged:minilm
task: {name: packaged:movie, train_size: 2000}
budget: 1.3%
"""
BARE = "exec python -c 'import ray, torch, transformers; ray.init(logging_level=40); print(\"here\", flush=True)'"


def main() -> None:
    table = Table("what", "value", "ratio to peer", title="submitting to a cluster of one node on this machine")
    with tempfile.TemporaryDirectory(prefix="pp") as folder:
        os.environ["PRUNEPEFT_STATE"] = f"{folder}/state"
        start_local_cluster(1, 2, 0, lambda event: None)
        try:
            for row in measured(Path(folder), Client()):
                table.add_row(*row)
        finally:
            stop_local_cluster(lambda event: None)
    Console().print(table)


def measured(folder: Path, client: Client) -> list[tuple[str, str, str]]:
    """Measure everything and return the rows of the table."""
    (folder / "search.yaml").write_text(SEARCH)
    peer = median(bare(client, number) for number in range(REPEATS))
    accepted, memory = [], []
    for number in range(REPEATS):
        begun = time.monotonic()
        job = client.submit(folder / "search.yaml", output=folder / f"run-{number}")
        accepted.append(time.monotonic() - begun)
        memory.append(driver_memory(job.id))
        client.stop(job.id)
    begun = time.monotonic()
    count = len(client.jobs())
    listing = time.monotonic() - begun
    return [
        ("peer: a bare Ray job has started", f"{peer:.1f} s", "1.00"),
        ("a search is checked and accepted", f"{median(accepted):.1f} s", f"{median(accepted) / peer:.2f}"),
        ("memory of its driver (unique)", f"{median(memory) / 2**20:.0f} MB", ""),
        (f"jobs, of {count}", f"{1000 * listing:.0f} ms", ""),
    ]


def bare(client: Client, number: int) -> float:
    """Submit a job that does nothing and return the seconds until it prints its line."""
    begun, name = time.monotonic(), f"bare-{number}"
    client._server.submit(name, BARE, {}, {})
    while "here" not in client._server.log(name).splitlines():
        time.sleep(0.1)
    return time.monotonic() - begun


def driver_memory(job: str) -> int:
    """Return the unique memory of a job's driver in bytes."""
    for process in psutil.process_iter():
        command = process.cmdline()
        if "drive" in command and any(job in part for part in command):
            return int(process.memory_full_info().uss)
    raise RuntimeError(f"the driver of {job} is gone")


if __name__ == "__main__":
    main()
