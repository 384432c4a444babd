"""The architectures found, layer by layer, and the pruning rounds that led to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prunepeft_ray.analysis.charges import CELL, SEARCH
from prunepeft_ray.analysis.method_rows import BASELINE
from prunepeft_ray.analysis.pruning_frames import trainings
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.analysis.searches import seen_in, trained
from prunepeft_ray.analysis.summary import summarise
from prunepeft_ray.architecture import KIND_TITLES
from prunepeft_ray.report.architecture_drawing import summary_svg
from prunepeft_ray.report.basis import basis_of_searches
from prunepeft_ray.report.blocks import Block, Drawing, Figure, Section, Table
from prunepeft_ray.report.heatmaps import Panel, stacked
from prunepeft_ray.report.style import apply_style, style_of

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MAX_SEARCHES = 50
"""Maximum number of searches whose rounds are shown; the frame ``rounds`` has all of them."""
_INTRO = "Which slots the architectures fill, with modules of which size, and how pruning led to them, round by round."


def architecture_section(results: Results) -> Section:
    """Show the architectures found and the rounds that led to them.

    Args:
        results: A run or a study, finished or not.
    """
    found, rounds = results["architectures_found"], results["rounds"]
    rounds = rounds.assign(fidelity=rounds.job_id.map(trained(results)))
    finals = _retrained(results)
    blocks: list[Block] = []
    if not results.is_study and results.run.finished:
        blocks.append(_drawing(results, finals))
    else:
        places = seen_in(found).groupby(["model", "task"])
        blocks += [_picture(results, str(model), str(task), there, finals) for (model, task), there in places]
    shown = _shown(rounds)
    for (model, task), there in shown.groupby(["model", "task"]):
        blocks += _rounds_blocks(results, str(model), str(task), there.reset_index(drop=True), finals)
    missing = ["architectures: no search has chosen one yet"] if found.empty else []
    if (others := len(rounds[list(SEARCH)].drop_duplicates()) - MAX_SEARCHES) > 0:
        missing.append(
            f"the rounds of {others} of {others + MAX_SEARCHES} searches: the table `rounds` has all of them"
        )
    return Section("architectures", "Architectures", tuple(blocks), _INTRO, tuple(missing))


def _drawing(results: Results, finals: pd.DataFrame) -> Drawing:
    found = results["architectures_found"]
    return Drawing(
        "architecture",
        "The architecture found",
        summary_svg(summarise(results.run, results)),
        found,
        basis_of_searches(results, _with_fidelity(found, finals), "dev and test, as labelled"),
        scope={"model": str(found.model.iloc[0]), "task": str(found.task.iloc[0])} if len(found) else {},
    )


def _chosen(found: pd.DataFrame) -> pd.DataFrame:
    """Count the searches of each method that fill each slot, and the sizes of the modules."""
    slots = found.assign(unfinished=found.status != "done").groupby(["method", "kind", "layer", "slot"])
    shares = slots.agg(
        searches=("filled", "size"),
        filled=("filled", "sum"),
        smallest=("size", "min"),
        largest=("size", "max"),
        unfinished=("unfinished", "sum"),
    ).reset_index()
    return shares.assign(share=shares.filled / shares.searches)


def _picture(results: Results, model: str, task: str, found: pd.DataFrame, finals: pd.DataFrame) -> Figure:
    chosen = _chosen(found)
    sizes = chosen.smallest.astype("string").fillna("")
    one_size = (chosen.smallest == chosen.largest).fillna(True)
    marked = chosen.method + (chosen.groupby("method").unfinished.transform("max") > 0).map(
        {True: " (so far)", False: ""}
    )
    words = chosen.assign(
        column=marked,
        text=sizes.where(one_size, sizes + "–" + chosen.largest.astype("string").fillna("")),
        hover=marked
        + ", "
        + chosen.slot
        + ": filled in "
        + chosen.filled.astype(str)
        + " of "
        + chosen.searches.astype(str)
        + (", size " + sizes).where(chosen.filled > 0, ""),
    )
    columns = sorted(set(marked), key=lambda name: (not name.startswith("prunepeft"), name))
    layers = range(int(chosen.layer.max()) + 1)
    panels = []
    for kind, of_kind in words.groupby("kind"):
        values, text, hover = (
            of_kind.pivot(index="layer", columns="column", values=name).reindex(layers, columns=columns)
            for name in ("share", "text", "hover")
        )
        panels.append(Panel(f"{kind}: {KIND_TITLES.get(str(kind), '')}", values, text.fillna(""), hover))
    return Figure(
        "architectures",
        "The architectures found, layer by layer",
        stacked(panels, x="", scale="share of searches that fill the slot"),
        chosen.assign(model=model, task=task),
        basis_of_searches(results, _with_fidelity(found, finals), "none: these are choices"),
        "Layers from the input (0, at the bottom) up. Numbers: the size of the module (rank, bottleneck or prefix "
        "length), as a range where searches differ. Grey with a cross: not in the search space.",
        {"model": model, "task": task},
    )


def _retrained(results: Results) -> pd.DataFrame:
    """The retrainings of all searches, with their dev metric and amount of training."""
    asked = results.as_study.read("requests")
    finals = asked[asked.kind == "final"]
    found = finals.merge(trainings(results, finals.job_id), on="job_id", how="left")
    return found.assign(fidelity=found.job_id.map(trained(results)))


def _with_fidelity(found: pd.DataFrame, finals: pd.DataFrame) -> pd.DataFrame:
    """The searches of these architectures, each with the amount of training of its retrainings."""
    searches = found[list(SEARCH)].drop_duplicates()
    return searches.merge(finals[[*SEARCH, "fidelity"]].drop_duplicates(), on=list(SEARCH), how="left")


def _shown(rounds: pd.DataFrame) -> pd.DataFrame:
    """The rounds of the searches shown: equally many of each model and task, lowest seeds first."""
    searches = rounds[list(SEARCH)].drop_duplicates()
    turn = searches.groupby(list(CELL)).cumcount()
    searches = searches.assign(turn=turn, other=searches.method != BASELINE)
    searches = searches.sort_values(["turn", "other", "model", "task", "method"])
    place = searches.groupby(["model", "task"]).cumcount()
    first = searches.assign(place=place).sort_values("place", kind="stable").head(MAX_SEARCHES)
    return rounds.merge(first[list(SEARCH)], on=list(SEARCH))


def _rounds_blocks(
    results: Results, model: str, task: str, rounds: pd.DataFrame, retrained: pd.DataFrame
) -> Iterator[Block]:
    scope = {"model": model, "task": task}
    basis = basis_of_searches(results, rounds, "dev")
    unmeasured = "" if rounds.dev.notna().any() else " Rounds are evaluated with pruning.evaluate_rounds: true."
    yield Figure(
        "rounds",
        "Slots left and dev metric, round by round",
        _rounds_plot(rounds, retrained),
        rounds,
        basis,
        "Round 0 is the supernet. Filled markers: the dev metric with the remaining slots, trained as in a pruning "
        "round. Hollow markers: the mean over retrainings with the full recipe, which is not comparable. Hover to see "
        f"what a round removed, with the probability of being pruned.{unmeasured}",
        scope,
    )
    yield Table(
        "story",
        "What each round removed",
        rounds,
        _rounds_text(rounds, retrained),
        basis,
        "In parentheses: the probability of being pruned, p(m). The dev metric after a round is that of the training "
        "in the next round; after the last round there is only that of the retraining with the full recipe, marked †."
        f"{unmeasured}",
        scope,
    )


def _rounds_text(rounds: pd.DataFrame, retrained: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    def number(values: pd.Series[Any], form: str) -> pd.Series[str]:
        return values.map(lambda value: "" if pd.isna(value) else form.format(value))

    last = rounds.groupby(list(SEARCH)).cumcount(ascending=False) == 0
    final = rounds[list(SEARCH)].join(retrained.groupby(list(SEARCH)).dev.mean(), on=list(SEARCH)).dev
    after = number(rounds.dev_after, "{:.4f}")
    return pd.DataFrame(
        {
            "method": rounds.method
            + (rounds.status != "done").map({True: " (", False: ""})
            + rounds.status.where(rounds.status != "done", "")
            + (rounds.status != "done").map({True: ")", False: ""}),
            "seed": rounds.seed,
            "round": rounds["round"],
            "removed": rounds.removals,
            "slots left": rounds.slots,
            "parameters left": number(rounds.parameters, "{:,.0f}"),
            "dev before": number(rounds.dev, "{:.4f}"),
            "dev after": after.where(~last, number(final, "{:.4f} †")),
        }
    )


def _rounds_plot(rounds: pd.DataFrame, retrained: pd.DataFrame) -> go.Figure:
    import plotly.graph_objects as go

    styles, final = style_of(rounds.method), retrained.groupby(list(SEARCH)).dev.mean()
    traces: list[dict[str, Any]] = []
    shown: set[str] = set()
    for key, search in rounds.groupby(list(SEARCH)):
        method = str(key[2])
        look = _look(method, styles[method], method not in shown)
        shown.add(method)
        traces += _search_traces(search, look, f"{method}, seed {key[3]}", final.get(key))
    metric = rounds.metric.dropna()
    axis = {"tick0": 0, "dtick": 1}
    layout = {
        "xaxis": {"anchor": "y", **axis, "matches": "x2", "showticklabels": False},
        "xaxis2": {"anchor": "y2", **axis, "title": {"text": "rounds of removal"}},
        "yaxis": {"domain": [0.56, 1], "title": {"text": "slots left"}, "rangemode": "tozero"},
        "yaxis2": {
            "domain": [0, 0.48],
            "anchor": "x2",
            "title": {"text": f"dev {metric.iloc[0] if len(metric) else ''}"},
        },
    }
    return apply_style(go.Figure({"data": traces, "layout": layout}), height=450 + 18 * len(styles))


def _look(method: str, style: tuple[str, str, str], first: bool) -> dict[str, Any]:
    colour, symbol, dash = style
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": method,
        "legendgroup": method,
        "showlegend": first,
        "meta": {"method": method},
        "marker": {"symbol": symbol, "size": 8, "color": colour},
        "line": {"color": colour, "dash": dash, "width": 1.5},
    }


def _search_traces(
    search: pd.DataFrame, look: dict[str, Any], title: str, final: float | None
) -> Iterator[dict[str, Any]]:
    """The slots of one search after each round, the dev metric of each training, and that of its retraining."""
    first, stages = search.iloc[0], [0, *search["round"]]
    words = ["supernet", *("round " + search["round"].astype(str) + " removed " + search.removals)]
    yield look | {
        "x": stages,
        "y": [first.slots_before, *search.slots],
        "customdata": words,
        "hovertemplate": f"{title}: %{{y}} slots left<br>%{{customdata}}<extra></extra>",
    }
    unseen = look | {"showlegend": False, "xaxis": "x2", "yaxis": "y2"}
    yield unseen | {
        "x": stages[:-1],
        "y": search.dev,
        "customdata": search.slots_before,
        "hovertemplate": f"{title}: dev %{{y:.4f}} with %{{customdata}} slots<extra></extra>",
    }
    if final is not None and final == final:
        marker = look["marker"] | {"symbol": f"{look['marker']['symbol']}-open", "size": 11}
        yield unseen | {
            "x": [stages[-1]],
            "y": [final],
            "mode": "markers",
            "marker": marker,
            "hovertemplate": f"{title}: dev %{{y:.4f}}, mean of retrainings<extra></extra>",
        }
