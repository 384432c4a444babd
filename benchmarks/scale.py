"""A study's driver at scale: 10,000 jobs on up to 512 devices, in virtual time.

Methods, dispatcher and the driver's commits are real; training takes as long as a cost model says that is fitted to a
few short jobs of MiniLM on this machine. Driver time is CPU time per job of asking, dispatching, telling, and
committing requests, decisions and outcomes; the results of jobs, which workers commit, are kept in memory. Files go to
a file system in memory where there is one, so that the speed of a disk does not count. The driver keeps all devices
busy if it takes less time per job than the limit: the mean duration of a job, divided by the number of devices.
``python -m benchmarks.scale 10000 512 docs/scale.svg`` also draws the makespan, with Plotly in Chromium.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.growth import svg_of
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
from prunepeft_ray.report.style import COLOURS, DASHES, apply_style
from prunepeft_ray.results import Request, ResultsStore, RunContext, SearchOutcome
from prunepeft_ray.study import StudySpec
from prunepeft_ray.tasks import TaskData

JOBS, DEVICES, SEEDS, SHARED = 10_000, 512, 16, 50
MEMORY = Path("/dev/shm")
MODEL, TASK = "packaged:minilm", "packaged:movie"


def main(jobs: int = JOBS, most: int = DEVICES, picture: str | None = None) -> None:
    settings, data = planned(1)
    workload = measure_workload(MODEL, load_outline(MODEL), data, 128)
    costs = fit_costs(short_jobs(settings[0], data, workload, lambda event: None), "short jobs")
    others = len(run(settings, workload, costs, 1).jobs) - SEEDS
    # random search shares its first candidates with ASHA
    evaluations = SHARED + max(0, round((jobs - others) / SEEDS))
    cases = [(evaluations // 8, most), (evaluations // 2, most), *((evaluations, count) for count in numbers(most))]
    found = [measured(workload, costs, *case) for case in cases]
    print_table(found)
    if picture is not None:
        draw([case.simulation for case in found if case.evaluations == evaluations], Path(picture))


@dataclass(frozen=True)
class Case:
    """A simulated study, and what simulating it took.

    Args:
        evaluations: Candidates of random search.
        simulation: The study.
        seconds: Real seconds.
        cpu: CPU seconds.
    """

    evaluations: int
    simulation: Simulation
    seconds: float
    cpu: float


def print_table(found: Sequence[Case]) -> None:
    whole = found[-1].simulation
    mean = whole.device_seconds / len(whole.jobs)
    title = f"{len(whole.searches)} searches, {len(whole.jobs):,} jobs of {mean:.1f} s on average"
    columns = ("candidates", "jobs", "devices", "makespan s", "critical path s", "utilisation", "limited by")
    table = Table(*columns, "driver CPU ms per job", "limit ms", "real s (CPU s)", title=title)
    for case in found:
        run = case.simulation
        table.add_row(
            str(case.evaluations),
            f"{len(run.jobs):,}",
            str(run.devices),
            f"{run.makespan:,.0f}",
            f"{run.critical:,.0f}",
            f"{run.utilisation:.1%}",
            run.limit,
            f"{1000 * run.driver_cpu / len(run.jobs):.2f}",
            f"{1000 * run.device_seconds / len(run.jobs) / run.devices:.1f}",
            f"{case.seconds:.0f} ({case.cpu:.0f})",
        )
    Console(width=140).print(table)


def draw(found: Sequence[Simulation], picture: Path) -> None:
    """Draw the makespan against the number of devices, with what bounds it from below."""
    import plotly.graph_objects as go

    lines = {
        "study": [run.makespan for run in found],
        "device time / devices": [run.bounds["devices"] for run in found],
        "critical path": [run.critical for run in found],
        "methods and driver, one by one": [run.thinking for run in found],
    }
    figure = go.Figure()
    for (name, values), colour, dash in zip(lines.items(), COLOURS, DASHES, strict=False):
        line = {"color": colour, "dash": dash}
        figure.add_scatter(x=[run.devices for run in found], y=values, name=name, mode="lines+markers", line=line)
    apply_style(figure, height=360, x="devices", y="virtual s")
    figure.update_xaxes(type="log", tickvals=[run.devices for run in found])
    figure.update_yaxes(type="log")
    picture.write_text(svg_of(figure, 700, 360), encoding="utf-8")


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
            {"name": "asha", "evaluations": SHARED},
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
    return simulate(settings, results, devices, time.thread_time, store)


def measured(workload: Workload, costs: Costs, evaluations: int, devices: int) -> Case:
    """Simulate a study whose driver commits files."""
    settings, _ = planned(evaluations)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        started, cpu = time.monotonic(), time.process_time()
        found = run(settings, workload, costs, devices, DriverStore(Path(folder)))
        return Case(evaluations, found, time.monotonic() - started, time.process_time() - cpu)


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
    main(*map(int, sys.argv[1:3]), *sys.argv[3:])
