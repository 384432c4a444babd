import math

import pytest
from comparison_fakes import MODEL, TASK, StudyFake
from report_fakes import add_search, finish, start_run

from prunepeft_ray.analysis import open_results
from prunepeft_ray.analysis.cost_frames import UNITS
from prunepeft_ray.report.blocks import Figure, Table
from prunepeft_ray.report.sections.cost import cost_section
from prunepeft_ray.report.sections.methods import methods_section
from prunepeft_ray.report.sections.paper import NOT_RUN, is_decoder, paper_section
from prunepeft_ray.report.sections.parameters import CANDIDATES, parameters_section
from prunepeft_ray.results import RunFolder
from prunepeft_ray.study import StudySpec

OTHER = "packaged:trec"
SECTIONS = (methods_section, parameters_section, cost_section, paper_section)
TESTS = {
    "prunepeft": 0.70,
    "random-search": 0.75,
    "single:weight": 0.65,
    "single:zeros": 0.60,
    "lora-rank:2": 0.50,
    "lora-rank:64": 0.80,
    "full": 0.90,
    "amazon": 0.72,
}
PARAMETERS = {"lora-rank:2": 100, "lora-rank:64": 3000, "full": 100_000}


def spec_of(methods=(*list(TESTS)[:-1], {"name": "strategy-transfer", "label": "amazon"}), **changes):
    values = {"methods": methods, "tasks": (TASK, OTHER), "models": (MODEL,), "seeds": (0, 1), "budget": "1%"}
    return StudySpec.model_validate(values | changes)


def write(path, skip=()):
    """A study with a reference sweep, two single criteria, candidates and a transfer; of ``skip`` nothing."""
    spec = spec_of()
    RunFolder.create(path, spec)
    study = StudyFake(path)
    for cell in spec.cells():
        method, task, seed = cell.method.label, cell.task.name, cell.seed
        if (method, task, seed) in skip:
            continue
        if method == "random-search":
            for dev in (0.4, 0.5 + seed / 10):
                study.ask(
                    method, seed, study.job("candidate", metrics={"accuracy": dev}, task=task), "candidate", task=task
                )
        parameters = PARAMETERS.get(method, 900)
        test = TESTS[method] + 0.02 * seed * (len(method) % 3 + 1)
        study.search(method, seed, [test] * 2, task=task, parameters=parameters, reference=method in PARAMETERS)
    return open_results(path)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sections") / "study")


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    skip = {("single:weight", TASK, 1), ("prunepeft", OTHER, 0), ("prunepeft", OTHER, 1)}
    return write(tmp_path_factory.mktemp("unfinished") / "study", skip)


def block(section, key, task=TASK, kind=None):
    return next(
        b
        for b in section.blocks
        if b.key == key and b.scope.get("task", task) == task and isinstance(b, kind or object)
    )


def traces_of(figure, method):
    return [trace for trace in figure.plot.data if trace.meta and trace.meta["method"] == method]


# --- what must hold of every section


@pytest.mark.parametrize("build", SECTIONS)
@pytest.mark.parametrize("which", ["results", "unfinished"])
def test_every_block_has_a_key_of_its_own_data_and_says_what_it_rests_on(build, which, request):
    section = build(request.getfixturevalue(which))
    names = [(b.key, *b.scope.values()) for b in section.blocks]
    assert len(set(names)) == len(names)
    for found in section.blocks:
        assert len(found.data)
        assert all((found.basis.n, found.basis.seeds, found.basis.fidelity, found.basis.split))
        if isinstance(found, Table):
            assert found.text.notna().all(axis=None)


@pytest.mark.parametrize("build", SECTIONS)
def test_a_study_without_results_raises_nothing_and_says_so(build, tmp_path):
    RunFolder.create(tmp_path / "study", spec_of())
    section = build(open_results(tmp_path / "study"))
    assert not [b for b in section.blocks if isinstance(b, Figure)]
    assert section.missing or build is paper_section


@pytest.mark.parametrize("build", SECTIONS)
@pytest.mark.parametrize("fill", [lambda folder: None, add_search, finish], ids=["empty", "half", "whole"])
def test_a_search_by_itself_is_shown_as_a_study_of_one(build, fill, tmp_path):
    folder = start_run(tmp_path / "run")
    fill(folder)
    section = build(open_results(folder.path))
    methods = {method for b in section.blocks if "method" in b.data for method in b.data.method.dropna()}
    assert methods <= {"prunepeft", ""}
    if fill is finish:
        assert "prunepeft" in methods


@pytest.mark.parametrize("build", SECTIONS[:3])
def test_every_figure_and_table_is_of_one_model_and_task_but_for_paired_differences(build, results):
    for found in build(results).blocks:
        if found.key.startswith("overall"):
            continue
        assert set(found.scope) == {"model", "task"}
        assert set(found.data.task) == {found.scope["task"]}


# --- what methods found


def test_the_figure_shows_every_search_the_mean_and_its_interval(results):
    figure = block(methods_section(results), "tests")
    interval, dots = traces_of(figure, "prunepeft")
    # 0.70 and 0.72: "prunepeft" has nine letters; t(0.975, 1) = 12.7062, half width 12.7062 * 0.01
    assert sorted(dots.x) == pytest.approx([0.70, 0.72])
    assert interval.x[0] == pytest.approx(0.71)
    assert interval.error_x.array[0] == pytest.approx(0.127062, rel=1e-4)


def test_references_and_choices_are_hollow_and_methods_are_not(results):
    figure = block(methods_section(results), "tests")
    for method in ("full", "lora-rank:2", "best single (dev)", "best single (oracle)"):
        assert traces_of(figure, method)[0].marker.symbol.endswith("-open")
    for method in ("prunepeft", "random-search", "single:weight"):
        assert not traces_of(figure, method)[0].marker.symbol.endswith("-open")
    assert "best single (oracle): oracle: single:weight" in figure.basis.marks


def test_differences_stand_with_both_p_and_without_a_line_for_prunepeft(results):
    figure = block(methods_section(results), "differences")
    assert not traces_of(figure, "prunepeft")
    said = {note.y: note.text for note in figure.plot.layout.annotations}
    rows = {row.method: row for row in results.comparison.rows if row.task == TASK}
    found = rows["random-search"].difference
    assert f"p {found.p:.3f} (Holm {found.p_holm:.3f})" in said["random-search"]
    assert "Holm" not in said["full"]
    assert traces_of(figure, "random-search")[0].x[0] == pytest.approx(found.mean)


def test_names_of_methods_in_tables_are_those_that_the_page_filters_by(unfinished):
    labels = {row.method for row in unfinished.comparison.rows}
    for build in SECTIONS:
        for table in (b for b in build(unfinished).blocks if isinstance(b, Table)):
            assert set(table.text.method) <= labels | {""}


def test_what_is_missing_is_marked_and_said(unfinished):
    section = methods_section(unfinished)
    assert any(OTHER in text and "differences" in text for text in section.missing)
    table = block(section, "results")
    assert "single:weight: 1 search missing" in table.basis.marks
    notes = table.text.set_index("method").notes
    assert notes["single:weight"] == "1 search missing"
    assert table.basis.n.startswith("1 to 2 searches")


# --- metric against parameters


def test_the_sweep_is_one_line_by_rank_and_the_front_leaves_out_what_is_beaten(results):
    figure = block(parameters_section(results), "answers")
    lines = {trace.name: trace for trace in figure.plot.data if trace.mode == "lines"}
    assert list(lines["LoRA by rank"].x) == [100, 3000]
    assert list(lines["front of means"].x) == [100, 900, 3000]
    budget = figure.plot.layout.shapes[0]
    assert budget.x0 == 1000


def test_what_is_far_above_the_budget_is_told_in_words(results):
    figure = block(parameters_section(results), "answers")
    assert not traces_of(figure, "full")
    assert "full with 100,000 (100.00 %): 0.9" in figure.caption
    assert "full" in set(figure.data.method)


def test_hypervolumes_are_means_over_searches(results):
    table = block(parameters_section(results), "hypervolumes")
    own = table.data[(table.data.method == "random-search") & (table.data.what == "candidate")].hypervolume
    shown = table.text.set_index("method")["candidates, dev"]["random-search"]
    assert shown == f"{own.mean():.4f} ± {own.std():.4f} (2)"
    assert table.text.set_index("method")["candidates, dev"]["prunepeft"] == "–"


def test_of_many_candidates_fronts_and_an_even_sample_are_shown(results):
    shown = open_results(results.folder.parent)
    many = shown["points"].query("what == 'candidate' and not front")
    repeated = many.loc[many.index.repeat(2 * CANDIDATES)]
    shown._frames["points"] = type(many)({name: [*shown["points"][name], *repeated[name]] for name in many.columns})
    figure = block(parameters_section(shown), "candidates")
    assert sum(len(trace.x) for trace in figure.plot.data) <= CANDIDATES + 2
    fronts = [trace for trace in figure.plot.data if "front" in trace.name]
    assert sum(len(trace.x) for trace in fronts) == figure.data.front.sum()
    assert "Shown: " in figure.caption


# --- cost


def test_lines_are_candidates_markers_are_answers_and_the_menu_has_every_unit(results):
    figure = block(cost_section(results), "best-so-far")
    band, line, marker = traces_of(figure, "random-search")
    # candidates of two passes each; the second of seed 1 is better by 0.1
    assert (list(line.x), list(line.y)) == ([2, 4], pytest.approx([0.4, 0.55]))
    assert (min(band.y), max(band.y)) == pytest.approx((0.4, 0.6))
    # two candidates and a round; dev is 0.05 above the tests 0.75 and 0.79
    assert (marker.x[0], marker.y[0]) == pytest.approx((6.0, 0.82))
    (menu,) = figure.plot.layout.updatemenus
    assert len(menu.buttons) == len(UNITS)
    for button, unit in zip(menu.buttons, UNITS, strict=True):
        data, layout = button.args
        assert len(data["x"]) == len(figure.plot.data)
        assert layout["xaxis.title.text"] == UNITS[unit]
    flops = menu.buttons[list(UNITS).index("flops")].args[0]["x"][list(figure.plot.data).index(line)]
    assert list(flops) == [4e9, 8e9]


def test_an_oracle_has_no_place_where_dev_decides(results):
    figure = block(cost_section(results), "best-so-far")
    assert not traces_of(figure, "best single (oracle)")
    assert traces_of(figure, "best single (dev)")[0].marker.symbol.endswith("-open")


def test_search_against_retraining_is_in_epochs_and_as_a_ratio(results):
    rows = block(cost_section(results), "search-retraining").text.set_index("method")
    assert rows.loc["random-search"].to_list()[:3] == ["6.00", "2.00", "3.00"]
    # both criteria had to be tried
    assert rows.loc["best single (dev)"].to_list()[:3] == ["4.00", "2.00", "2.00"]


def test_a_search_that_has_not_ended_has_no_cost_yet(unfinished):
    rows = block(cost_section(unfinished), "search-retraining", OTHER).text.set_index("method")
    assert rows.loc["prunepeft"].to_list()[:3] == ["–", "–", "–"]


# --- the paper's tables


def paper_table(results, number):
    return next(b for b in paper_section(results).blocks if b.key == f"table-{number}")


def test_published_numbers_and_ours_never_share_a_column(results):
    tables = paper_section(results).blocks
    assert [table.key for table in tables] == [f"table-{number}" for number in (2, 3, 4, 5, 6)]
    for table in tables:
        published = table.text[table.text.whose == "published"]
        ours = table.text[table.text.whose == "this study"]
        assert list(published.index) == list(table.highlight)
        assert set(published.method) == {""}
        for name in table.text.columns:
            if name.startswith("published: "):
                assert set(ours[name]) == {"–"}
            if name.startswith("ours: "):
                assert set(published[name]) == {"–"}
        assert set(table.data.whose) <= {"published", "this study"}
        assert any("they were not reproduced here" in mark for mark in table.basis.marks)


def test_our_rows_stand_below_the_published_rows_that_they_belong_to(results):
    text = paper_table(results, 5).text.set_index("row of the table")
    ours = f"ours: {TASK}, accuracy on test"
    assert text.loc["best single criterion per task", "published: SST-2"] == "96.4"
    assert text.loc["best single criterion, oracle", "method"] == "best single (oracle)"
    assert text.loc["best single criterion, chosen on dev", "notes"].endswith("chosen on dev: single:weight")
    assert text.loc["no block partition", ours].to_list() == ["–", NOT_RUN]
    mean = 0.71
    assert text.loc["PrunePEFT", ours].to_list() == ["–", f"{mean:.4f} ± {0.02 / math.sqrt(2):.4f} (2)"]


def test_transfer_is_found_by_the_methods_name_whatever_its_label(results):
    text = paper_table(results, 6).text.set_index("row of the table")
    assert text.loc["strategy of another task", "method"] == "amazon"
    assert text.loc["architecture of another task", f"ours: {OTHER}, accuracy on test"] == NOT_RUN


def test_table_4_has_epochs_of_search_and_of_one_retraining(results):
    table = paper_table(results, 4)
    text = table.text[table.text.method == "prunepeft"].iloc[0]
    assert (text[f"ours: {TASK}, search"], text[f"ours: {TASK}, retraining"]) == ("2.00", "2.00")
    numbers = table.data[(table.data.method == "prunepeft") & (table.data.task == TASK)]
    assert dict(zip(numbers.column, numbers.value, strict=True)) == {"search": 2.0, "retraining": 2.0}


def test_what_has_not_ended_is_told_from_what_was_not_run(unfinished):
    text = paper_table(unfinished, 2).text.set_index(["row of the table", "whose"])
    assert text.loc[("PrunePEFT", "this study"), f"ours: {OTHER}, accuracy on test"] == "not finished"
    assert text.loc[("AutoPEFT", "this study"), f"ours: {OTHER}, accuracy on test"] == NOT_RUN


def test_all_methods_of_a_study_are_in_the_table_of_their_kind_of_backbone(results):
    rows = {row.method for row in results.comparison.rows if row.role in ("method", "reference")}
    assert rows <= set(paper_table(results, 2).text.method)
    alone = paper_table(results, 3)
    assert alone.scope == {}
    assert set(alone.text.method) == {""}


@pytest.mark.parametrize(
    ("model", "decoder"),
    [("packaged:smollm2", True), ("meta-llama/Meta-Llama-3-8B", True), ("roberta-large", False), (MODEL, False)],
)
def test_decoders_are_told_by_their_names(model, decoder):
    assert is_decoder(model) == decoder


@pytest.mark.parametrize(
    ("config", "decoder"), [('{"model_type": "llama"}', True), ('{"model_type": "bert"}', False), ("{", True)]
)
def test_a_model_at_hand_is_told_by_its_configuration(config, decoder, tmp_path):
    folder = tmp_path / "my-llama"
    folder.mkdir()
    (folder / "config.json").write_text(config)
    assert is_decoder(str(folder)) == decoder
