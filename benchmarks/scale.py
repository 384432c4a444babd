"""A study's driver at scale: 10,000 jobs on up to 512 devices, in virtual time.

Methods, dispatcher and the driver's commits are real; training takes as long as a cost model says that is fitted to a
few short jobs of MiniLM on this machine. Driver time is CPU time per job of asking, dispatching, telling, and
committing requests, decisions and outcomes; the results of jobs, which workers commit, are kept in memory. Files go to
a file system in memory where there is one, so that the speed of a disk does not count. The driver keeps all devices
busy if it takes less time per job than the limit: the mean duration of a job, divided by the number of devices.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prunepeft_ray.backbones import load_outline
from prunepeft_ray.execution.simulation.costs import Costs, fit_costs
from prunepeft_ray.execution.simulation.footprint import Workload, measure_workload
from prunepeft_ray.execution.simulation.measurements import short_jobs
from prunepeft_ray.execution.simulation.outcomes import PredictedResults
from prunepeft_ray.execution.simulation.simulator import Simulation, simulate
from prunepeft_ray.execution.simulation.store import SimulatedStore
from prunepeft_ray.execution.study.plan import plan_study
from prunepeft_ray.execution.study.setting import Setting
from prunepeft_ray.jobs import Decision
from prunepeft_ray.results import Request, ResultsStore, RunContext, SearchOutcome
from prunepeft_ray.study import StudySpec
from prunepeft_ray.tasks import TaskData

JOBS, DEVICES, SEEDS = 10_000, 512, 16
MEMORY = Path("/dev/shm")
MODEL, TASK = "packaged:minilm", "packaged:movie"


def main(jobs: int = JOBS, most: int = DEVICES) -> None:
    settings, data = planned(1)
    workload = measure_workload(MODEL, load_outline(MODEL), data, 128)
    costs = fit_costs(short_jobs(settings[0], data, workload, lambda event: None), "short jobs")
    others = len(run(settings, workload, costs, 1).jobs) - SEEDS
    settings, _ = planned(max(1, round((jobs - others) / SEEDS)))
    rows = [timed(settings, workload, costs, devices) for devices in numbers(most)]
    first = rows[0][0]
    mean = first.device_seconds / len(first.jobs)
    title = f"{len(first.jobs):,} jobs of {mean:.1f} s on average, {len(first.searches)} searches"
    columns = (
        "devices",
        "makespan s",
        "utilisation",
        "limited by",
        "driver CPU ms per job",
        "limit ms",
        "real s (CPU s)",
    )
    table = Table(*columns, title=title)
    for found, seconds, cpu in rows:
        table.add_row(
            str(found.devices),
            f"{found.makespan:,.0f}",
            f"{found.utilisation:.1%}",
            found.limit,
            f"{1000 * found.driver_cpu / len(found.jobs):.2f}",
            f"{1000 * mean / found.devices:.1f}",
            f"{seconds:.0f} ({cpu:.0f})",
        )
    Console().print(table)


def numbers(most: int) -> list[int]:
    """1, 8, 64, 512 and so on, up to a number of devices, which comes last."""
    powers = [8**i for i in range(10) if 8**i < most]
    return [*powers, most]


def planned(evaluations: int) -> tuple[list[Setting], TaskData]:
    """A study of four methods, of which random search evaluates that many candidates."""
    spec = StudySpec(
        methods=(
            "prunepeft",
            "single:weight",
            {"name": "asha", "evaluations": 50},
            {"name": "random-search", "evaluations": evaluations},
        ),
        tasks=({"name": TASK, "train_size": 1000, "dev_size": 200, "test_size": 200},),
        models=(MODEL,),
        seeds=tuple(range(SEEDS)),
        budget="1.3%",
        space={"kinds": ("PA", "PF", "PT", "SA")},
        training={"epochs": 5},
    )
    settings, data = plan_study(spec, lambda event: None)
    return settings, data[TASK]


def run(
    settings: Sequence[Setting], workload: Workload, costs: Costs, devices: int, store: SimulatedStore | None = None
) -> Simulation:
    results = PredictedResults({(MODEL, TASK): settings[0].problem}, {(MODEL, TASK): workload}, costs)
    return simulate(settings, results, devices, time.perf_counter, store)


def timed(
    settings: Sequence[Setting], workload: Workload, costs: Costs, devices: int
) -> tuple[Simulation, float, float]:
    """Simulate a study whose driver commits files; return it with the real and the CPU seconds that this took."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        started, cpu = time.monotonic(), time.process_time()
        found = run(settings, workload, costs, devices, DriverStore(Path(folder)))
        return found, time.monotonic() - started, time.process_time() - cpu


class DriverStore(SimulatedStore):
    """Keeps results of jobs in memory, and commits to a folder what the driver of a study commits."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.disk = ResultsStore(folder)

    def commit_request(self, request: Request) -> bool:
        super().commit_request(request)
        return self.disk.commit_request(request)

    def commit_decisions(self, context: RunContext, decisions: Sequence[Decision]) -> None:
        self.disk.commit_decisions(context, decisions)

    def commit_search(self, outcome: SearchOutcome) -> None:
        super().commit_search(outcome)
        self.disk.commit_search(outcome)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
