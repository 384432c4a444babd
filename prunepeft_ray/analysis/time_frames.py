"""When workers were busy, and what the time was spent on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.analysis.charges import active_seconds
from prunepeft_ray.analysis.frame import DerivedFrame
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.results import Column

if TYPE_CHECKING:
    import pandas as pd


_KINDS = ("warmup", "round", "candidate", "final", "deciding")


def worker_jobs(results: Results) -> pd.DataFrame:
    """Work out which worker ran which job when; a job that several trained together stands once for each."""
    import pandas as pd

    jobs = results["jobs"]
    jobs = jobs.assign(worker=jobs.workers)[[*_WORKER_JOB_COLUMNS[1:], "worker"]].explode("worker")
    jobs = jobs[jobs.worker.notna()].sort_values(["started_at", "worker"], kind="stable")
    host = jobs.worker.astype("str").str.replace(r":[^:]*$", "", regex=True)
    node = pd.Series(pd.factorize(host)[0] + 1, index=jobs.index)
    number = pd.Series(pd.factorize(jobs.worker)[0], index=jobs.index)
    within = number.groupby(node).rank(method="dense").astype("int64")
    named = "node " + node.astype("str") + ", worker " + within.astype("str")
    return jobs.assign(worker=named)[list(_WORKER_JOB_COLUMNS)].reset_index(drop=True)


_WORKER_JOB_COLUMNS = ("worker", "job_id", "kind", "label", "method", "task", "status", "started_at", "finished_at")


WORKER_JOBS = DerivedFrame(
    "worker_jobs",
    "a worker's part in a job",
    (
        Column("worker", "string", "the process, by node and number, in the order in which they began"),
        Column("job_id", "string", "the job"),
        Column("kind", "string", "part in the method: warmup, round, candidate or final"),
        Column("label", "string", "a few words for people"),
        Column("method", "string", "search method that asked for it first"),
        Column("task", "string", "task, as the user named it"),
        Column("status", "string", "done or failed"),
        Column("started_at", "timestamp", "start; of the last attempt at a job that was taken up again", "UTC"),
        Column("finished_at", "timestamp", "end", "UTC"),
    ),
    worker_jobs,
)


def utilisation(results: Results) -> pd.DataFrame:
    """Work out how busy every worker was, in the time in which any worker had something to do."""
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
    return frame.reset_index()[["worker", "jobs", "busy_seconds", "busy_share", "first", "last"]]


UTILISATION = DerivedFrame(
    "utilisation",
    "a worker",
    (
        Column("worker", "string", "the process, by node and number, in the order in which they began"),
        Column("jobs", "int64", "jobs that it took part in"),
        Column("busy_seconds", "double", "time in jobs", "s"),
        Column("busy_share", "double", "the same as a share of the time in which any worker ran a job"),
        Column("first", "timestamp", "start of its first job", "UTC"),
        Column("last", "timestamp", "end of its last job", "UTC"),
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
    return both[[*cell, "part", "jobs", "seconds"]].reset_index(drop=True)


TIME_SPENT = DerivedFrame(
    "time_spent",
    "what a method spent on one part of its searches, over all seeds",
    (
        Column("model", "string", "backbone, as the user named it"),
        Column("task", "string", "task, as the user named it"),
        Column("method", "string", "the method's label in the study"),
        Column("part", "string", "warmup, round, candidate, final or deciding (by the method itself)"),
        Column("jobs", "int64", "jobs charged; a job that several searches asked for is charged to each"),
        Column("seconds", "double", "device-seconds of the jobs; wall-clock time of deciding", "s"),
    ),
    time_spent,
)
