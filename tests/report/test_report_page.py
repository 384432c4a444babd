import html
import json
import re

import pandas as pd
import plotly.graph_objects as go
import pytest
from pages import METHODS, OTHER, Page, make_study

from prunepeft_ray.analysis import open_results
from prunepeft_ray.report import build_report
from prunepeft_ray.report.blocks import Basis, Drawing, Figure, Section, Table
from prunepeft_ray.report.build import Report
from prunepeft_ray.report.csv_text import to_csv
from prunepeft_ray.report.html import EMBEDDED_ROWS, block_id, page_html

BASIS = Basis("3 searches", "0, 1", "200 examples", "test", ("one is missing",))
NASTY = '</script><img src="https://example.org/x.png" onerror=alert(1)> & "quotes"'


def report_of(*blocks, **changes):
    section = Section("part", "A part", tuple(blocks), "What it answers.", ("something",))
    values = {"title": "t", "facts": (), "warnings": (), "finished": True, "written": pd.Timestamp("2026-01-01")}
    return Report(**values | {"sections": (section,)} | changes)


def table(rows=2, **changes):
    frame = pd.DataFrame({"method": [f"m{i}" for i in range(rows)], "value": range(rows)})
    return Table(**{"key": "t", "title": "T", "data": frame, "text": frame.astype("str"), "basis": BASIS} | changes)


def figure(**changes):
    plot = go.Figure(go.Scatter(x=[1], y=[2], meta={"method": "m1"}), {"height": 300})
    frame = pd.DataFrame({"a": [1]})
    return Figure(**{"key": "f", "title": "F", "plot": plot, "data": frame, "basis": BASIS} | changes)


def embedded(text, name):
    """The JSON in a script of the page."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


@pytest.fixture(scope="module")
def study_page(tmp_path_factory):
    results = make_study(tmp_path_factory.mktemp("page") / "study")
    return page_html(build_report([results]), "report")


def test_a_page_refers_to_nothing_outside_itself(study_page):
    assert [r for r in Page(study_page).references if not r.startswith(("#", "data:"))] == []


def test_every_section_has_a_tab_and_every_block_an_id_of_its_own(study_page, tmp_path):
    page = Page(study_page)
    assert len(page.ids) == len(set(page.ids))
    for section in build_report([make_study(tmp_path / "study")]).sections:
        assert {section.key, f"tab-{section.key}"} <= set(page.ids)
        assert {block_id(section, block) for block in section.blocks} <= set(page.ids)


def test_every_block_says_what_its_numbers_rest_on():
    text = page_html(report_of(table(), figure()), "report")
    for said in ("n: 3 searches", "seeds: 0, 1", "fidelity: 200 examples", "measured on: test", "one is missing"):
        assert text.count(said) == 2


def test_what_is_missing_and_what_must_be_known_first_is_said():
    text = page_html(report_of(warnings=("4 jobs failed",)), "report")
    assert "Not shown: something" in text
    assert "4 jobs failed" in text


def test_names_cannot_break_out_of_the_page():
    frame = pd.DataFrame({"method": [NASTY], "value": [NASTY]})
    plot = go.Figure(go.Scatter(x=[1], y=[2], name=NASTY, meta={"method": NASTY}))
    blocks = (
        table(data=frame, text=frame, title=NASTY, scope={"task": NASTY}),
        figure(plot=plot, data=frame),
        Drawing("d", "D", "<svg></svg>", frame, BASIS),
    )
    page = Page(page_html(report_of(*blocks, title=NASTY), "report"))
    assert "img" not in page.tags
    assert page.tags.count("script") == 4
    # Plotly reads HTML
    (trace,) = embedded(page.text, "plots")["part-f"]["data"]
    assert (trace["name"], trace["meta"]["method"]) == (html.escape(NASTY, quote=False), NASTY)


@pytest.mark.parametrize("name", ["<!--", "<!-- <script", "]]>", "</script ", "&lt;", "\u2028\u2029", "=1+1"])
def test_data_with_any_name_are_in_the_page_unchanged(name):
    frame = pd.DataFrame({"method": [name], "value": [1]})
    page = Page(page_html(report_of(table(data=frame, text=frame, scope={"task": name})), "report"))
    assert page.tags.count("script") == 4
    for script in ("plots", "csvs"):
        written = re.search(rf'id="{script}">(.*?)</script>', page.text, re.DOTALL)[1]
        assert written.isascii()
        assert not set(written) & set("<>&")
    (csv,) = embedded(page.text, "csvs").values()
    assert csv == to_csv(frame)


def test_markup_of_our_own_stays_and_that_of_names_is_shown():
    plot = go.Figure(go.Scatter(x=["<b>a</b>", "<i>"], y=[1, 2], hovertemplate="<i>:%{x}<br>&<extra></extra>"))
    plots = embedded(page_html(report_of(figure(plot=plot)), "report"), "plots")
    (trace,) = plots["part-f"]["data"]
    assert trace["x"] == ["<b>a</b>", "&lt;i&gt;"]
    assert trace["hovertemplate"] == "&lt;i&gt;:%{x}<br>&amp;<extra></extra>"


def test_blocks_of_names_that_look_alike_have_names_of_their_own_of_bounded_length():
    section = Section("part", "A part", ())
    names = ["a_b.csv", "a-b.csv", "a b.csv", "A-b.csv", "训练.csv", "测试.csv", "x" * 5000, "x" * 4999, "", "."]
    scopes = [{"task": name} for name in names] + [{"model": a, "task": b} for a, b in [("a-b", "c"), ("a", "b-c")]]
    found = [block_id(section, table(scope=scope)) for scope in scopes]
    assert len(set(found)) == len(found)
    assert max(map(len, found)) < 120
    assert found[0] == "part-t-a_b.csv"


def test_data_is_in_the_page_unless_it_is_long():
    text = page_html(report_of(table(EMBEDDED_ROWS), table(EMBEDDED_ROWS + 1, key="long")), "beside")
    assert list(embedded(text, "csvs")) == ["part-t"]
    assert embedded(text, "csvs")["part-t"] == table(EMBEDDED_ROWS).data.to_csv(index=False)
    assert "beside/part-long.csv" in Page(text).references


def test_filters_are_there_only_for_what_there_is_a_choice_of(study_page):
    for name in ("task",):
        assert f'<select name="{name}">' in study_page
    for name in ("model", "run"):
        assert f'<select name="{name}">' not in study_page
    assert re.findall(r'name="method" value="([^"]*)"', study_page) == list(METHODS)
    assert f"<option>{OTHER}</option>" in study_page
    assert "<form" not in page_html(report_of(table(1)), "report")


def test_numbers_stand_right_and_published_rows_apart():
    text = pd.DataFrame({"what": ["a", "b"], "n": ["1,000", "–"], "when": ["2026-01-01", "2026-01-02"]})
    html = page_html(report_of(table(text=text, highlight=(1,))), "report")
    assert '<td class="number">1,000</td>' in html
    assert "<td>2026-01-01</td>" in html
    assert html.count('class="apart"') == 1


def test_a_page_that_is_watched_loads_itself_again():
    assert '<meta http-equiv="refresh" content="30">' in page_html(report_of(), "report", refresh=30)
    assert "http-equiv" not in page_html(report_of(), "report")


def test_several_runs_come_side_by_side_and_apart(tmp_path):
    runs = [make_study(tmp_path / name) for name in ("one", "two")]
    report = build_report(runs)
    assert report.title == "2 runs compared"
    assert report.sections[0].key == "runs"
    (both, *_) = (block for block in report.sections[0].blocks if isinstance(block, Table))
    assert list(both.data.run) == ["one"] * 3 + ["two"] * 3
    for section in report.sections[1:]:
        assert [block.scope["run"] for block in section.blocks] == sorted(b.scope["run"] for b in section.blocks)
    assert '<select name="run">' in page_html(report, "report")


def test_an_unfinished_study_is_reported_as_such(tmp_path):
    report = build_report([make_study(tmp_path / "study", whole=False)])
    assert not report.finished
    assert "1 of 12 searches, and 0 retrainings of completed searches, are missing" in report.warnings[0]
    assert build_report([make_study(tmp_path / "whole")]).finished


def test_a_study_without_any_job_has_a_page_too(tmp_path):
    make_study(tmp_path / "study")
    for file in (tmp_path / "study" / "results").rglob("*.parquet"):
        file.unlink()
    report = build_report([open_results(tmp_path / "study")])
    assert page_html(report, "report")
    assert all(section.missing or section.blocks for section in report.sections)
