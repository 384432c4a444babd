"""A report of a study of 100,000 jobs: how large its page is, and that a browser can cope with it."""

import pytest
from browser import browser, opened
from synthetic_study import make_study

from prunepeft_ray.analysis import open_results
from prunepeft_ray.report import write_report

__all__ = ["browser"]
JOBS, MOST_BYTES = 100_000, 15_000_000


@pytest.mark.slow
def test_a_page_of_100000_jobs_stays_small_and_usable(browser, tmp_path):
    make_study(tmp_path / "study", jobs=JOBS)
    results = open_results(tmp_path / "study")
    report = write_report([results], tmp_path / "page.html")
    assert len(results["jobs"]) == JOBS
    assert (tmp_path / "page.html").stat().st_size < MOST_BYTES
    with opened(browser, tmp_path / "page.html") as page:
        for section in report.sections:
            page.get_by_role("tab", name=section.title, exact=True).click()
            assert page.locator(f"#{section.key} article:visible").count() == len(section.blocks)
        page.wait_for_selector("#overview .main-svg", state="attached")
