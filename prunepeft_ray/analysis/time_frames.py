"""When workers were busy, and what the time was spent on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.analysis.charges import active_seconds
from prunepeft_ray.analysis.columns import NUMBER, TEXT, TIME, WHOLE, fitted
from prunepeft_ray.analysis.frame import DerivedFrame
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd


_KINDS = ("warmup", "round", "candidate", "final", "deciding")


def worker_jobs(results: Results) -> pd.DataFrame:
    """Compute which worker ran which job when; a job that several trained together stands once for each."""
    import pandas as pd

    jobs = results["jobs"]
    names = [column.name for column in WORKER_JOBS.columns]
    jobs = jobs.assign(worker=jobs.workers)[names].explode("worker")
    jobs = jobs[jobs.worker.notna()].sort_values(["started_at", "worker"], kind="stable")
    host = jobs.worker.astype("str").str.replace(r":[^:]*$", "", regex=True)
    node = pd.Series(pd.factorize(host)[0] + 1, index=jobs.index)
    number = pd.Series(pd.factorize(jobs.worker)[0], index=jobs.index)
    within = number.groupby(node).rank(method="dense").astype("int64")
    named = "node " + node.astype("str") + ", worker " + within.astype("str")
    return fitted(jobs.assign(worker=named), WORKER_JOBS.columns)


WORKER_JOBS = DerivedFrame(
    "worker_jobs",
    "a worker's part in a job",
    (
        Column("worker", TEXT, "the process, by node and number, in the order in which they began"),
        Column("job_id", TEXT, "the job"),
        Column("kind", TEXT, "part in the method: warmup, round, candidate or final"),
        Column("label", TEXT, "a few words for people"),
        Column("method", TEXT, "search method that asked for it first"),
        Column("task", TEXT, "task, as the user named it"),
        Column("status", TEXT, "done or failed"),
        Column("started_at", TIME, "start; of the last attempt at a job that was taken up again", "UTC"),
        Column("finished_at", TIME, "end", "UTC"),
    ),
    worker_jobs,
)


def utilisation(results: Results) -> pd.DataFrame:
    """Compute how busy every worker was, in the time in which any worker had something to do."""
    jobs = results["worker_jobs"]
    seconds = (jobs.finished_at - jobs.started_at).dt.total_seconds()
    by_worker = jobs.assign(busy_seconds=seconds).groupby("worker", sort=False)
    frame = by_worker.agg(
        jobs=("job_id", "size"),
        busy_seconds=("busy_seconds", "sum"),
        first=("started_at", "min"),
        last=("finished_at", "max"),
    )
    frame["busy_share"] = (frame.busy_seconds / max(active_seconds(jobs), 1e-9)).clip(upper=1.0)
    return fitted(frame.reset_index(), UTILISATION.columns)


UTILISATION = DerivedFrame(
    "utilisation",
    "a worker",
    (
        Column("worker", TEXT, "the process, by node and number, in the order in which they began"),
        Column("jobs", WHOLE, "jobs that it took part in"),
        Column("busy_seconds", NUMBER, "time in jobs", "s"),
        Column("busy_share", NUMBER, "the same as a share of the time in which any worker ran a job"),
        Column("first", TIME, "start of its first job", "UTC"),
        Column("last", TIME, "end of its last job", "UTC"),
    ),
    utilisation,
)


def time_spent(results: Results) -> pd.DataFrame:
    """Add up what time searches are charged for, by method and part."""
    import pandas as pd

    cell = ["model", "task", "method"]
    jobs = results["charges"]
    spent = jobs.groupby([*cell, "kind"], as_index=False).agg(
        jobs=("job_id", "size"), device_seconds=("device_seconds", "sum")
    )
    ended = results.as_study.read("searches")
    deciding = ended.groupby(cell, as_index=False).agg(device_seconds=("proposal_seconds", "sum"))
    both = pd.concat([spent, deciding.assign(kind="deciding", jobs=0)], ignore_index=True)
    both = both[both.device_seconds > 0].rename(columns={"kind": "part", "device_seconds": "seconds"})
    order = both.part.map({part: place for place, part in enumerate(_KINDS)})
    both = both.assign(order=order).sort_values([*cell, "order"])
    return fitted(both, TIME_SPENT.columns)


TIME_SPENT = DerivedFrame(
    "time_spent",
    "what a method spent on one part of its searches, over all seeds",
    (
        Column("model", TEXT, "backbone, as the user named it"),
        Column("task", TEXT, "task, as the user named it"),
        Column("method", TEXT, "the method's label in the study"),
        Column("part", TEXT, "warmup, round, candidate, final or deciding (by the method itself)"),
        Column("jobs", WHOLE, "jobs charged; a job that several searches asked for is charged to each"),
        Column("seconds", NUMBER, "device-seconds of the jobs; wall-clock time of deciding", "s"),
    ),
    time_spent,
)
