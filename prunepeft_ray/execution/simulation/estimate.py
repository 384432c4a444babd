"""Estimating what a study will take before it is run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunepeft_ray.backbones import load_outline
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.execution.simulation.costs import Costs, fit_costs
from prunepeft_ray.execution.simulation.footprint import Workload, measure_workload
from prunepeft_ray.execution.simulation.measurements import jobs_of_run, short_jobs
from prunepeft_ray.execution.simulation.outcomes import PredictedResults
from prunepeft_ray.execution.simulation.simulator import Simulation, check_devices, simulate
from prunepeft_ray.execution.study.plan import plan_study
from prunepeft_ray.plugins import load_named_plugins
from prunepeft_ray.results import RunFolder
from prunepeft_ray.study import StudySpec
from prunepeft_ray.tasks import TaskData
from prunepeft_ray.text import counted


@dataclass(frozen=True)
class Estimate:
    """What a study will take.

    Args:
        costs: How durations were predicted.
        simulations: A simulated run for each number of devices.
    """

    costs: Costs
    simulations: Sequence[Simulation]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; durations in seconds."""
        first = self.simulations[0]
        return {
            "durations": {
                "source": self.costs.source,
                "measured_jobs": self.costs.jobs,
                "median_error": self.costs.error,
                "seconds_per_unit": self.costs.named(),
            },
            "searches": len(first.searches),
            "failed": {s.cell.title: s.reason for s in first.searches if s.state == "failed"},
            "runs": [_run_to_dict(simulation) for simulation in self.simulations],
        }


def _run_to_dict(simulation: Simulation) -> dict[str, Any]:
    return {
        "devices": simulation.devices,
        "jobs": len(simulation.jobs),
        "seconds": simulation.makespan,
        "utilisation": simulation.utilisation,
        "device_seconds": simulation.device_seconds,
        "limited_by": simulation.limit,
        "at_least_seconds": simulation.bounds,
        "driver_cpu_seconds_per_job": simulation.driver_cpu / max(1, len(simulation.jobs)),
        "methods": {
            label: {"jobs": jobs, "device_seconds": simulation.device_seconds_by_method[label]}
            for label, jobs in simulation.jobs_by_method.items()
        },
    }


def estimate_study(
    spec: StudySpec, devices: Sequence[int], measured_run: Path | None, emit: Emit, trust_plugins: bool = False
) -> Estimate:
    """Simulate a study on each number of devices.

    Methods run for real, and so does the dispatcher; training does not, and metrics are made up.

    Args:
        spec: The study.
        devices: Numbers of devices.
        measured_run: Folder of a run whose jobs tell how long jobs take; default: a few short jobs are measured here.
        emit: Callback that receives events.
        trust_plugins: Whether to import plugins named in that folder that this user has not used on this machine.

    Raises:
        InputError: If the study is wrong, a job needs more devices than there are, or the run has no finished jobs.
    """
    load_named_plugins(spec.plugins)
    check_devices(min(devices), spec.execution.workers)
    measured = None if measured_run is None else jobs_of_run(RunFolder.open(measured_run), emit, trust_plugins)
    settings, data = plan_study(spec, emit)
    workloads = _workloads(spec, data)
    if measured is None:
        first = settings[0].cell
        measured = short_jobs(settings[0], data[first.task.name], workloads[first.model, first.task.name], emit)
    costs = fit_costs(measured, "short jobs on this machine" if measured_run is None else str(measured_run))
    problems = {(one.cell.model, one.cell.task.name): one.problem for one in settings}
    results = PredictedResults(problems, workloads, costs, spec.execution.workers)
    simulations = []
    for count in devices:
        emit(Event("message", f"simulating {counted(count, 'device')}"))
        simulations.append(simulate(settings, results, count, time.perf_counter))
    return Estimate(costs, simulations)


def _workloads(spec: StudySpec, data: Mapping[str, TaskData]) -> dict[tuple[str, str], Workload]:
    length = spec.training.max_length
    return {
        (model, task): measure_workload(model, load_outline(model), data[task], length)
        for model in spec.models
        for task in data
    }
