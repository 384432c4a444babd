"""What each worker did when, and where the time went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.analysis.charges import active_seconds
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.analysis.time_frames import _KINDS
from prunepeft_ray.report.blocks import Basis, Block, Figure, Section, Table
from prunepeft_ray.report.labels import PHASES
from prunepeft_ray.report.style import COLOURS, apply_style, plotly_times
from prunepeft_ray.text import duration_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

BARS = 3000
"""Maximum number of jobs that the timeline shows one by one; beyond it, the utilisation of workers is shown."""
BINS = 200
FAILURES = 100
"""Maximum number of failed jobs listed on the page."""
PARTS = {**PHASES, "candidate": "candidates", "deciding": "deciding"}
"""What time is spent on, in this order; ``deciding`` is the time taken by the method itself."""
_PATTERNS = dict(zip(_KINDS, ("", "/", "x", ".", "-"), strict=True))
_COLOURS = dict(zip(_KINDS, COLOURS, strict=False))


def time_section(results: Results) -> Section:
    """Show the jobs of each worker, and where the time went.

    Args:
        results: The run or study.
    """
    jobs, missing = results["worker_jobs"], []
    blocks: list[Block] = []
    if len(jobs):
        blocks += [_time_line(results, jobs), _utilisation_table(results)]
    elif len(results["jobs"]):
        missing.append("jobs by worker: not recorded by the earlier version that stored these jobs")
    else:
        missing.append("everything: no job has finished yet")
    spent = results["time_spent"]
    places = spent[["model", "task"]].drop_duplicates().itertuples(index=False)
    blocks += [
        _time_spent_figure(results, spent[(spent.model == model) & (spent.task == task)], model, task)
        for model, task in places
    ]
    failed = results["jobs"][results["jobs"].status == "failed"]
    if len(failed):
        blocks.append(_failed_table(results, failed))
    return Section("time", "Time", tuple(blocks), "What each worker did when, and where the time went.", tuple(missing))


def _time_line(results: Results, jobs: pd.DataFrame) -> Figure:
    workers = list(jobs.worker.unique())
    plot = _bars(jobs) if len(jobs) <= BARS else _busy_heatmap(jobs, workers)
    apply_style(plot, height=min(900, 150 + 26 * len(workers)), x="time (UTC)")
    plot.update_yaxes(categoryorder="array", categoryarray=workers[::-1])
    caption = (
        "One bar per job and worker. "
        if len(jobs) <= BARS
        else f"Share of time each worker spent in jobs, in {BINS} equal intervals: there are too many jobs to show. "
    )
    caption += "Resumed jobs are shown with their last attempt."
    data = jobs if len(jobs) <= BARS else results["utilisation"]
    return Figure("time-line", "Jobs by worker", plot, data, _basis(results, len(jobs)), caption)


def _bars(jobs: pd.DataFrame) -> go.Figure:
    import plotly.graph_objects as go

    plot = go.Figure()
    for kind in (kind for kind in _KINDS if (jobs.kind == kind).any()):
        some = jobs[jobs.kind == kind]
        plot.add_bar(
            orientation="h",
            y=some.worker,
            base=plotly_times(some.started_at),
            x=(some.finished_at - some.started_at).dt.total_seconds() * 1000,
            name=PARTS[kind],
            marker={"color": _COLOURS[kind], "line": {"color": "#ffffff", "width": 0.5}},
            marker_pattern_shape=_PATTERNS[kind],
            customdata=some[["method", "task", "label", "status"]],
            hovertemplate="%{customdata[0]}, %{customdata[1]}<br>%{customdata[2]}: %{customdata[3]}<extra></extra>",
        )
    plot.update_layout(barmode="overlay", bargap=0.25)
    plot.update_xaxes(type="date")
    return plot


def _busy_heatmap(jobs: pd.DataFrame, workers: list[str]) -> go.Figure:
    import numpy as np
    import pandas as pd
    import plotly.graph_objects as go

    begin = jobs.started_at.min()
    starts = (jobs.started_at - begin).dt.total_seconds().to_numpy()
    ends = (jobs.finished_at - begin).dt.total_seconds().to_numpy()
    edges = np.linspace(0.0, max(float(ends.max()), 1e-9), BINS + 1)
    rows = pd.Categorical(jobs.worker, categories=workers).codes
    # seconds in jobs before every edge; their differences are the seconds within an interval
    busy = np.zeros((len(workers), BINS + 1))
    for place, edge in enumerate(edges):
        np.add.at(busy[:, place], rows, (np.minimum(ends, edge) - np.minimum(starts, edge)))
    share = np.diff(busy, axis=1) / np.diff(edges)
    middles = begin + pd.to_timedelta((edges[:-1] + edges[1:]) / 2, unit="s")
    return go.Figure(
        go.Heatmap(
            z=share.round(3), x=plotly_times(middles.to_series()), y=workers, zmin=0, zmax=1, colorscale="Cividis"
        )
    )


def _utilisation_table(results: Results) -> Table:
    frame = results["utilisation"]
    clock = "%Y-%m-%d %H:%M:%S"
    text = frame.assign(
        jobs=frame.jobs.map("{:,}".format),
        busy_seconds=frame.busy_seconds.map(duration_text),
        busy_share=frame.busy_share.map("{:.0%}".format).str.replace("%", " %"),
        first=frame["first"].dt.strftime(clock),
        last=frame["last"].dt.strftime(clock),
    )
    text.columns = ["worker", "jobs", "time in jobs", "share of active time", "first start (UTC)", "last end (UTC)"]
    active = duration_text(active_seconds(results["worker_jobs"]))
    caption = (
        f"The active time, {active}, is the time during which any worker ran a job. A restarted worker counts as a "
        "new one."
    )
    return Table("utilisation", "Utilisation of workers", frame, text, _basis(results, len(frame), "workers"), caption)


def _time_spent_figure(results: Results, spent: pd.DataFrame, model: str, task: str) -> Figure:
    import plotly.graph_objects as go

    plot = go.Figure()
    for part in (part for part in _KINDS if (spent.part == part).any()):
        some = spent[spent.part == part]
        plot.add_bar(
            orientation="h",
            y=some.method,
            x=some.seconds,
            name=PARTS[part],
            marker_color=_COLOURS[part],
            marker_pattern_shape=_PATTERNS[part],
            hovertemplate="%{y}: %{x:.1f} s<extra>" + PARTS[part] + "</extra>",
        )
    methods = list(spent.method.unique())
    plot.update_layout(barmode="stack")
    apply_style(plot, height=170 + 26 * len(methods), x="device-seconds")
    plot.update_yaxes(categoryorder="array", categoryarray=methods[::-1])
    return Figure(
        "time-spent",
        f"Where the time went: {task} on {model}",
        plot,
        spent,
        _basis(results, int(spent.jobs.sum())),
        "Total over all searches of a method, retraining included; a job that several searches asked for is charged to "
        "each. Deciding: time taken by the method itself.",
        {"model": model, "task": task},
    )


def _failed_table(results: Results, failed: pd.DataFrame) -> Table:
    frame = failed[["method", "model", "task", "seed", "kind", "label", "job_id", "finished_at", "reason"]]
    shown = frame.head(FAILURES)
    text = shown.assign(
        seed=shown.seed.astype("str"), finished_at=shown.finished_at.dt.strftime("%Y-%m-%d %H:%M:%S")
    ).rename(columns={"finished_at": "end (UTC)", "job_id": "job"})
    caption = f"The first {FAILURES} of {len(frame):,}; the data have all of them." if len(frame) > FAILURES else ""
    return Table("failed-jobs", "Failed jobs", frame, text, _basis(results, len(frame), "failed jobs"), caption)


def _basis(results: Results, n: int, what: str = "jobs") -> Basis:
    jobs = results["jobs"]
    failed = int((jobs.status == "failed").sum())
    return Basis(
        n=f"{n:,} {what}",
        seeds=", ".join(map(str, sorted(results.as_study.read("requests").seed.unique()))),
        fidelity="all jobs, warm-up to retraining",
        split="none: times only",
        marks=(f"including {failed:,} failed job{'' if failed == 1 else 's'}",) if failed else (),
    )
