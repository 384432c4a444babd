"""How the report formats numbers, names and notes."""

from __future__ import annotations

from collections.abc import Iterable

from prunepeft_ray.analysis.method_rows import MethodRow
from prunepeft_ray.analysis.statistics import Difference, Estimate


def test_text(row: MethodRow) -> str:
    """Format a method's mean on test, its deviation and the number of searches."""
    return estimate_text(row.test)


def _interval(row: MethodRow) -> str:
    return _interval_text(row.test, ".4f")


def _dev(row: MethodRow) -> str:
    return NOTHING if row.dev.mean is None else f"{row.dev.mean:.4f}"


def _retraining_deviation(row: MethodRow) -> str:
    return NOTHING if row.retraining_deviation is None else f"{row.retraining_deviation:.4f}"


def parameters_text(row: MethodRow) -> str:
    """Format the number of parameters of the chosen architectures."""
    if row.parameters_min is None:
        return NOTHING
    both = dict.fromkeys([f"{row.parameters_min:,}", f"{row.parameters_max:,}"])
    share = "" if row.percent is None else f" ({row.percent:.2f} %)"
    return " to ".join(both) + share


def difference_text(row: MethodRow) -> str:
    """Format the mean difference to ``prunepeft``."""
    return _mean_difference(row.difference)


def _difference_interval(row: MethodRow) -> str:
    return _interval_text(row.difference, "+.4f")


def _p(row: MethodRow) -> str:
    return _p_text(row.difference.p)


def _p_holm(row: MethodRow) -> str:
    return _p_text(row.difference.p_holm)


def p_text(found: Difference) -> str:
    """Format the p-value of a difference, and its value after Holm's correction."""
    return _p_text(found.p) + ("" if found.p_holm is None else f" (Holm {_p_text(found.p_holm)})")


def notes_text(row: MethodRow) -> str:
    """Return the notes on a row: its role, whether it is over budget or on the front, what failed or is missing."""
    roles = {"reference": "reference", "choice": f"chosen on dev: {row.chosen}", "oracle": f"oracle: {row.chosen}"}
    notes = [roles[row.role]] if row.role in roles else []
    notes += ["over budget"] if row.within_budget is False else []
    notes += ["front"] if row.pareto else []
    counts = (
        (row.failed, "search", "failed"),
        (row.missing, "search", "missing"),
        (row.retrainings_failed, "retraining", "failed"),
        (row.retrainings_missing, "retraining", "missing"),
    )
    return ", ".join([*notes, *(f"{n} {_plural(what, n)} {how}" for n, what, how in counts if n)])


def _plural(noun: str, number: int) -> str:
    ending = "es" if noun.endswith("ch") else "s"
    return noun if number == 1 else noun + ending


def estimate_text(found: Estimate) -> str:
    """Format a mean, its deviation and the number of values."""
    if found.mean is None:
        return NOTHING
    spread = "" if found.deviation is None else f" ± {found.deviation:.4f}"
    return f"{found.mean:.4f}{spread} ({found.n})"


def _interval_text(found: Estimate | Difference, digits: str) -> str:
    if found.low is None or found.high is None:
        return NOTHING
    return f"{found.low:{digits}} to {found.high:{digits}}"


def _mean_difference(found: Difference) -> str:
    return NOTHING if found.mean is None else f"{found.mean:+.4f}"


def _p_text(p: float | None) -> str:
    if p is None:
        return NOTHING
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


def _stacked(*lines: str, last: str = "") -> str:
    """Stack texts in lines, leaving out empty ones; the last line is prefixed with ``last``."""
    named = [*lines[:-1], last + lines[-1] if lines[-1] != NOTHING else NOTHING]
    return "\n".join(line for line in named if line != NOTHING) or NOTHING


NOTHING = "–"


def _number_text(number: float) -> str:
    return f"{number:,.1f}".removesuffix(".0")


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Map names to the last parts of Hub ids, paths and ``packaged:NAME``, or to themselves where those would clash."""
    known = list(dict.fromkeys(names))
    short = [name.rstrip("/").split("/")[-1].removeprefix("packaged:") for name in known]
    return {name: text if short.count(text) == 1 else name for name, text in zip(known, short, strict=True)}


PHASES = {"warmup": "warm-up", "round": "rounds", "final": "retraining"}
