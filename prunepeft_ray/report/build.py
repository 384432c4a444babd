"""Building a report on one run or study, or on several side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from prunepeft_ray.analysis.results import Results
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.report.blocks import Section
from prunepeft_ray.report.sections.architecture import architecture_section
from prunepeft_ray.report.sections.cost import cost_section
from prunepeft_ray.report.sections.methods import methods_section
from prunepeft_ray.report.sections.overview import overview_section, runs_section
from prunepeft_ray.report.sections.paper import paper_section
from prunepeft_ray.report.sections.parameters import parameters_section
from prunepeft_ray.report.sections.pruning import pruning_section
from prunepeft_ray.report.sections.time import time_section

SECTIONS: tuple[Callable[[Results], Section], ...] = (
    overview_section,
    methods_section,
    parameters_section,
    cost_section,
    pruning_section,
    architecture_section,
    time_section,
    paper_section,
)
"""The sections of a report, in order."""
DAMAGED = 10
"""Maximum number of damaged files that are named one by one."""


@dataclass(frozen=True)
class Report:
    """A report.

    Args:
        title: Title of the page.
        facts: Names and values: what was run, when, where and with which versions.
        warnings: What a reader must know first: what is missing, damaged or failed.
        sections: Its sections, in order.
        finished: Whether all of its runs have finished.
        written: Time of writing, UTC.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
    finished: bool
    written: datetime


def build_report(runs: Sequence[Results]) -> Report:
    """Build a report on the results so far.

    Args:
        runs: One run or study, or several to compare.

    Raises:
        InputError: If results were written by a version whose format cannot be read.
        RunError: If they cannot be read at all.
    """
    sections = [_merged([build(results) for results in runs], runs) for build in SECTIONS]
    if len(runs) > 1:
        sections.insert(0, runs_section(runs))
    facts = [(_named(runs, results, name), value) for results in runs for name, value in run_facts(results)]
    warnings = [_named(runs, results, text) for results in runs for text in run_warnings(results)]
    title = runs[0].label if len(runs) == 1 else f"{len(runs)} runs compared"
    return Report(
        title=title,
        facts=tuple(facts),
        warnings=tuple(warnings),
        sections=tuple(sections),
        finished=all(is_finished(results) for results in runs),
        written=datetime.now(UTC),
    )


def is_finished(results: Results) -> bool:
    """Whether a run, or every search and retraining of a study, has finished."""
    if not results.is_study:
        return results.run.finished
    return not any(row.missing or row.retrainings_missing for row in results.comparison.rows)


def run_facts(results: Results) -> list[tuple[str, str]]:
    """Return what was run, when, where and with which versions, as names and values."""
    spec, jobs = results.spec, results["jobs"]
    if isinstance(spec, SearchSpec):
        facts = [("search", f"{spec.task.name} on {spec.model}, seed {spec.seed}")]
    else:
        facts = [
            ("study", f"{len(spec.methods)} methods"),
            ("tasks", ", ".join(task.name for task in spec.tasks)),
            ("models", ", ".join(spec.models)),
            ("seeds", ", ".join(map(str, spec.seeds))),
        ]
    facts.append(("budget", spec.budget if "%" in spec.budget else f"{spec.budget} parameters"))
    if len(jobs):
        first, last = jobs.started_at.min(), jobs.finished_at.max()
        clock = "%Y-%m-%d %H:%M"
        newest = jobs.iloc[jobs.finished_at.argmax()]
        facts.append(("jobs", f"{len(jobs):,}, from {first.strftime(clock)} to {last.strftime(clock)} UTC"))
        facts.append(("hardware", ", ".join(f"{name} {value}" for name, value in newest.hardware.items())))
        facts.append(("versions", ", ".join(f"{name} {value}" for name, value in newest.versions.items())))
    return facts


def run_warnings(results: Results) -> list[str]:
    """Return what a reader must know before any number; of damaged files, those found while reading so far."""
    found = []
    if not is_finished(results):
        found.append(f"Not finished: {_missing_text(results)}. All numbers are preliminary.")
    failed = int((results["jobs"].status == "failed").sum())
    if failed:
        found.append(f"{failed:,} job{'s' if failed > 1 else ''} failed: see the failed jobs in the Time section.")
    damaged = results.damaged
    found += [damage.text for damage in damaged[:DAMAGED]]
    if len(damaged) > DAMAGED:
        found.append(f"Also damaged and left out: {len(damaged) - DAMAGED:,} more files.")
    return found


def _missing_text(results: Results) -> str:
    if not results.is_study:
        return "the search has no result yet"
    rows = [row for row in results.comparison.rows if row.role in ("method", "reference")]
    searches, retrainings = sum(row.missing for row in rows), sum(row.retrainings_missing for row in rows)
    planned = sum(row.missing + row.done + row.failed for row in rows)
    return f"{searches} of {planned} searches, and {retrainings} retrainings of completed searches, are missing"


def _named(runs: Sequence[Results], results: Results, text: str) -> str:
    return text if len(runs) == 1 else f"{results.label}: {text}"


def _merged(sections: Sequence[Section], runs: Sequence[Results]) -> Section:
    """Merge the same section of several runs into one; the page filters by run."""
    if len(sections) == 1:
        return sections[0]
    blocks = [
        replace(block, title=f"{results.label}: {block.title}", scope={"run": results.label, **block.scope})
        for results, section in zip(runs, sections, strict=True)
        for block in section.blocks
    ]
    missing = [
        f"{results.label}: {text}" for results, section in zip(runs, sections, strict=True) for text in section.missing
    ]
    return replace(sections[0], blocks=tuple(blocks), missing=tuple(missing))
