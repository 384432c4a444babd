import math

import pytest
from pages import make_study
from removal_fakes import WHOLE, PruningStudy, without, write_pruning_study
from report_fakes import add_search, start_run

from prunepeft_ray.analysis import open_results
from prunepeft_ray.architecture import block_sizes
from prunepeft_ray.report.heatmaps import share_text
from prunepeft_ray.report.sections.pruning import PUBLISHED, PUBLISHED_BLOCKS, PUBLISHED_LAYERS, pruning_section


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    return pruning_section(write_pruning_study(tmp_path_factory.mktemp("pruned") / "study").results())


def block(section, key):
    (found,) = [block for block in section.blocks if block.key == key]
    return found


def cells(trace):
    """The numbers of a heatmap, by row and column."""
    return {(y, x): trace.z[i][j] for i, y in enumerate(trace.y) for j, x in enumerate(trace.x)}


def test_ratios_are_drawn_by_kind_criterion_and_layer(section):
    figure = block(section, "pruning-ratio-prunepeft")
    pa, sa = figure.plot.data
    assert cells(pa)["weight", "0"] == 1.0
    assert cells(pa)["weight", "2"] == pytest.approx(1 / 3)
    assert cells(sa)["zeros", "3"] == 1.0
    assert pa.text[pa.y.index("weight")][2] == ".33"
    assert pa.meta == {"method": "prunepeft"}
    assert {annotation.text for annotation in figure.plot.layout.annotations} == {"PA", "SA"}


def test_ratios_say_what_they_rest_on(section):
    basis = block(section, "pruning-ratio-prunepeft").basis
    assert (basis.n, basis.seeds, basis.split) == ("2 searches of prunepeft", "0, 1", "training only")
    assert basis.fidelity == "100 examples, 1 epoch"
    assert basis.marks == ("searches unfinished: 1",)


def test_a_criterion_that_abstained_is_named(tmp_path):
    study = PruningStudy(tmp_path / "study")
    job = study.train(0, "warmup", evaluate="none", train_size=100)
    study.turn(0, 1, "weight", WHOLE.slots, ("PA.0", "SA.3"), job)
    study.turn(0, 1, "zeros", WHOLE.slots, (), job)
    section = pruning_section(study.results())
    marks = block(section, "pruning-ratio-prunepeft").basis.marks
    assert "zeros abstained: it gave every slot the same value" in marks
    # a share of no removals is no number
    trace = block(section, "tendencies-prunepeft").plot.data[0]
    assert math.isnan(cells(trace)["0.PA", "zeros"])


def test_tendencies_are_drawn_with_a_sign_where_a_criterion_judged(section):
    (trace,) = block(section, "tendencies-prunepeft").plot.data
    assert cells(trace)["0.PA", "weight"] == pytest.approx(2 / 6)
    text = {(y, x): trace.text[i][j] for i, y in enumerate(trace.y) for j, x in enumerate(trace.x)}
    assert text["0.PA", "weight"] == ".33 ●"
    assert text["2.SA", "weight"] == "0 ◐"
    assert text["0.PA", "zeros"] == "0"
    # the input at the bottom
    assert list(trace.y[-4:]) == ["0.PA", "1.PA", "2.PA", "3.PA"]


def test_frequencies_leave_unfinished_searches_out_and_say_so(section):
    figure = block(section, "frequency-by-layer")
    (line,) = figure.plot.data
    # seed 0 removed SA.3, PA.0 and SA.0
    assert list(line.y) == [1.0, 0.0, 0.0, 0.5]
    assert figure.basis.n == "1 search of prunepeft"
    assert figure.basis.marks == ("searches unfinished: 1, left out",)


def test_blocks_are_compared_with_an_even_spread_beside_the_published(section):
    figure = block(section, "frequency-by-block")
    ours, published = figure.plot.data
    # 2 of 2 slots of block 0, where 3 of 8 went in all
    assert list(ours.y) == pytest.approx([8 / 3, 0, 0, 4 / 3])
    assert published.name == PUBLISHED
    assert published.marker.symbol == "diamond-open"
    assert list(published.y) == pytest.approx([24 * 0.069, 24 * 0.034, 24 * 0.025, 24 * 0.049])
    assert "published" in figure.basis.marks[-1]


def test_the_table_of_blocks_sets_the_published_row_apart(section):
    table = block(section, "block-frequency")
    assert list(table.text.method) == ["prunepeft", PUBLISHED]
    assert table.text["block 0"].tolist() == ["0.667 (2.67)", "0.069 (1.66)"]
    assert list(table.highlight) == [1]
    assert set(table.data.source) == {"ours", "published"}


def test_published_frequencies_sum_to_one_over_the_layers_of_the_released_blocks():
    sizes = block_sizes(PUBLISHED_LAYERS, "reference")
    total = sum(size * share for size, share in zip(sizes, PUBLISHED_BLOCKS, strict=True))
    assert total == pytest.approx(1.0, abs=0.005)


def test_a_method_without_blocks_has_no_published_ones_beside_it(tmp_path):
    study = PruningStudy(tmp_path / "study", seeds=(0,))
    study.round(0, 1, WHOLE, {"PA.0": 0.5}, {})
    results = study.results()
    results._frames["frequencies"] = results["frequencies"].assign(block=0)
    keys = {block.key for block in pruning_section(results).blocks}
    assert keys == {"frequency-by-layer", "frequency-by-task-prunepeft"}


def test_tasks_stand_below_each_other_by_kind_and_layer(section):
    figure = block(section, "frequency-by-task-prunepeft")
    pa, _sa = figure.plot.data
    assert pa.y == ("movie",)
    assert cells(pa) == {("movie", "0"): 1.0, ("movie", "1"): 0.0, ("movie", "2"): 0.0, ("movie", "3"): 0.0}
    assert set(figure.scope) == {"model"}


def test_slots_that_were_never_there_are_gaps_with_a_cross(tmp_path):
    study = PruningStudy(tmp_path / "study", seeds=(0,))
    study.round(0, 1, without("PA.1"), {"PA.0": 0.5}, {})
    pa, crosses, _sa = block(pruning_section(study.results()), "frequency-by-task-prunepeft").plot.data
    assert math.isnan(cells(pa)["movie", "1"])
    assert (crosses.x, crosses.y) == (("1",), ("movie",))


def test_losses_take_the_place_of_shares_where_they_were_measured(tmp_path):
    study = PruningStudy(tmp_path / "study", seeds=(0,))
    scoring = study.train(0, "warmup", evaluate="holdout", train_size=100)
    study.turn(0, 1, "weight", WHOLE.slots[:1], ("PA.0",), scoring)
    study.train(0, "warmup", without("PA.0"), evaluate="holdout", train_size=100, loss=0.625)
    figure = block(pruning_section(study.results()), "tendencies-prunepeft")
    assert cells(figure.plot.data[0]) == {("0.PA", "weight"): 0.625}
    assert figure.basis.split == "a held-out part of the subset"
    assert figure.plot.layout.coloraxis.reversescale


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (1.0, "1"), (0.25, ".25"), (0.999, "1.00"), (math.nan, "")])
def test_shares_are_written_in_little_room(value, text):
    assert share_text(value) == text


def test_what_is_not_there_yet_is_said(tmp_path):
    empty = pruning_section(PruningStudy(tmp_path / "empty").results())
    assert (empty.blocks, empty.missing) == ((), ("everything: no search has pruned anything yet",))
    without_pruning = pruning_section(make_study(tmp_path / "rivals", methods=("random-search",)))
    assert without_pruning.blocks == ()
    half = PruningStudy(tmp_path / "half")
    half.turn(0, 1, "weight", WHOLE.slots, ("PA.0",), half.train(0, "warmup"))
    shown = pruning_section(half.results())
    assert {block.key for block in shown.blocks} == {"pruning-ratio-prunepeft", "tendencies-prunepeft"}
    assert shown.missing == ("pruning frequencies: no search has finished a round yet",)


def test_a_search_by_itself_that_has_not_ended_is_shown_as_far_as_it_is(tmp_path):
    folder = start_run(tmp_path / "run")
    add_search(folder)
    shown = pruning_section(open_results(tmp_path / "run"))
    assert all(block.basis.marks[0] == "searches unfinished: 1" for block in shown.blocks)
    assert len(shown.blocks) == 4
