"""The report that is kept in docs: everything that a report can show is in it, and a browser shows it."""

from pathlib import Path

import pytest
from browser import browser, opened
from pages import Page

__all__ = ["browser"]
FILE = Path(__file__).parents[2] / "docs" / "quickstart-report.html"
PLACE = "packaged-minilm-packaged-trec"
IN_EVERY_PLACE = (
    "overview-answers",
    "methods-tests",
    "methods-differences",
    "methods-results",
    "methods-search-costs",
    "methods-retraining-costs",
    "parameters-answers",
    "parameters-candidates",
    "parameters-hypervolumes",
    "cost-best-so-far",
    "cost-search-retraining",
    "pruning-pruning-ratio-prunepeft",
    "pruning-tendencies-prunepeft",
    "pruning-frequency-by-layer",
    "pruning-frequency-by-block",
    "pruning-block-frequency",
    "architectures-architectures",
    "architectures-rounds",
    "architectures-story",
    "time-time-spent",
)
ONCE = (
    "time-time-line",
    "time-utilisation",
    "pruning-frequency-by-task-prunepeft-packaged-minilm",
    *(f"paper-table-{number}-packaged-minilm" for number in (2, 4, 5, 6)),
    "paper-table-3",
)


def test_every_figure_and_table_is_in_it():
    found = set(Page(FILE.read_text(encoding="utf-8")).ids)
    assert {*(f"{name}-{PLACE}" for name in IN_EVERY_PLACE), *ONCE} - found == set()


@pytest.mark.parametrize(("width", "height"), [(1200, 900), (360, 740)])
def test_a_browser_shows_all_of_it(browser, width, height):
    with opened(browser, FILE, width, height) as page:
        for tab in page.get_by_role("tab").all():
            tab.click()
            page.wait_for_function(
                "[...document.querySelectorAll('section.shown .plot')].every((plot) => plot.querySelector('.main-svg'))"
            )
            assert page.evaluate("document.documentElement.scrollWidth") <= width
