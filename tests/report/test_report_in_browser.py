"""The page in a real Chromium without a network."""

import pandas as pd
import plotly.graph_objects as go
import pytest
from browser import browser, opened
from pages import METHODS, OTHER, make_study

from prunepeft_ray.report import build_report, write_report
from prunepeft_ray.report.blocks import Basis, Figure, Section, Table
from prunepeft_ray.report.build import Report
from prunepeft_ray.report.html import block_id, page_html

__all__ = ["browser"]
WIDE, NARROW = (1200, 900), (360, 740)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("browser") / "study")


@pytest.fixture(scope="module")
def file(results):
    page = results.run.path.parent / "page.html"
    write_report([results], page)
    return page


@pytest.fixture(scope="module")
def sections(results):
    return build_report([results]).sections


def drawn(page, name):
    """Wait for a figure; its size in pixels."""
    page.wait_for_selector(f"#{name} .main-svg", state="visible")
    return page.locator(f"#{name} .plot").bounding_box()


@pytest.mark.parametrize(("width", "height"), [WIDE, NARROW])
def test_every_figure_of_every_tab_is_drawn_and_fits_the_screen(browser, file, sections, width, height):
    with opened(browser, file, width, height) as page:
        for section in sections:
            page.get_by_role("tab", name=section.title, exact=True).click()
            for block in section.blocks:
                name = block_id(section, block)
                assert page.locator(f"#{name}").is_visible()
                if isinstance(block, Figure):
                    box = drawn(page, name)
                    assert box["x"] >= 0
                    assert box["x"] + box["width"] <= width
            # what is wide scrolls by itself, the page does not
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_one_tab_is_shown_at_a_time_and_a_link_leads_to_a_block(browser, file, sections):
    last = sections[-1]
    name = block_id(last, last.blocks[-1])
    with opened(browser, file, part=name) as page:
        assert page.locator("main > section:visible").count() == 1
        assert page.locator(f"#{name}").is_visible()
        assert page.locator("[aria-selected=true]").inner_text() == last.title
        page.keyboard.press("Tab")
        page.locator("[aria-selected=true]").focus()
        page.keyboard.press("ArrowRight")
        assert page.locator("[aria-selected=true]").inner_text() == sections[0].title


def test_the_task_filter_hides_what_is_about_other_tasks(browser, file):
    with opened(browser, file) as page:
        shown = page.locator("section.shown article:visible")
        before = shown.count()
        page.select_option("select[name=task]", OTHER)
        assert shown.count() == before // 2
        assert page.locator("section.shown article[data-task='packaged:movie']:visible").count() == 0
        page.select_option("select[name=task]", "")
        assert shown.count() == before


def test_the_method_filter_takes_a_method_from_figures_and_tables(browser, file):
    with opened(browser, file) as page:
        name = page.locator("section.shown article.figure").first.get_attribute("id")
        drawn(page, name)
        visible = f"document.querySelector('#{name} .plot').data.map((trace) => trace.visible ?? true)"
        assert page.evaluate(visible) == [True] * len(METHODS)
        page.get_by_text("methods", exact=True).click()
        page.get_by_role("checkbox", name="uniform-lora").uncheck()
        assert page.evaluate(visible) == [True, True, False]
        rows = page.locator("section.shown tr[data-method='uniform-lora']")
        assert rows.count() > 0
        assert rows.first.is_hidden()
        page.get_by_role("button", name="none").click()
        assert page.evaluate(visible) == [False] * 3
        page.get_by_role("button", name="all").click()
        assert page.evaluate(visible) == [True] * 3


def test_the_data_behind_a_figure_comes_as_csv(browser, file, sections):
    block = sections[0].blocks[0]
    name = block_id(sections[0], block)
    with opened(browser, file) as page:
        with page.expect_download() as download:
            page.locator(f"#{name} .data a").click()
        assert download.value.suggested_filename == f"{name}.csv"
        assert download.value.path().read_text(encoding="utf-8") == block.data.to_csv(index=False)


def test_a_table_is_sorted_by_a_click_on_a_heading(browser, file):
    with opened(browser, file) as page:
        table = page.locator("section.shown table").first
        head = table.get_by_role("columnheader", name="accuracy on test")
        cells = (
            "[...document.querySelector('section.shown tbody').rows].map((row) => parseFloat(row.cells[1].innerText))"
        )
        for _ in range(2):
            head.click()
        assert page.evaluate(cells) == sorted(page.evaluate(cells), reverse=True)
        head.click()
        assert page.evaluate(cells) == sorted(page.evaluate(cells))


def test_in_print_all_tabs_stand_one_after_another(browser, file, sections):
    with opened(browser, file) as page:
        page.emulate_media(media="print")
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        for section in sections:
            for block in section.blocks:
                if isinstance(block, Figure):
                    drawn(page, block_id(section, block))
        assert page.locator("nav").is_hidden()
        assert page.locator("main > section:visible").count() == len(sections)


def test_without_scripts_everything_but_figures_can_be_read(browser, file, sections):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("main > section:visible").count() == len(sections)
    assert page.locator("table").first.is_visible()
    context.close()


def test_names_of_any_kind_are_shown_as_they_are(browser, tmp_path):
    names = ["<!-- good", "=bad", "<!--<script>", "</script>x", "a]]>b", "<b onclick=x>y", "&lt;i&gt;", "x\u2028y"]
    basis = Basis("1", "0", "all", "test")
    frame = pd.DataFrame({"method": names, "value": range(len(names))})
    traces = [go.Scatter(x=[name], y=[1], name=name, meta={"method": name}) for name in names]
    plot = go.Figure(traces, {"height": 500, "xaxis": {"type": "category"}})
    blocks = (Figure("f", "F", plot, frame, basis), Table("t", "T", frame, frame.astype(str), basis))
    report = Report("<!-- title", (), (), (Section("part", "P", blocks),), True, pd.Timestamp("2026-01-01"))
    (tmp_path / "page.html").write_text(page_html(report, "page"), encoding="utf-8")
    with opened(browser, tmp_path / "page.html") as page:
        drawn(page, "part-f")
        plain = "(found) => found.map((one) => one.textContent)"
        # Plotly puts a space in the place of a line separator
        shown = [name.replace("\u2028", "\n") for name in names]
        for what in (".legendtext", ".xtick text"):
            assert [t.replace("\u2028", "\n") for t in page.eval_on_selector_all(f"#part-f {what}", plain)] == shown
        assert page.eval_on_selector_all("#part-t td:first-child", plain) == names
        assert page.locator("h1").inner_text() == "<!-- title"
        with page.expect_download() as download:
            page.locator("#part-t .data a").click()
        assert download.value.path().read_text(encoding="utf-8").splitlines()[1:3] == ["<!-- good,0", "'=bad,1"]
