import pandas as pd
import pytest
from pages import make_study

from prunepeft_ray.errors import RunError
from prunepeft_ray.report import build_report, write_report
from prunepeft_ray.report.blocks import Basis, Table
from prunepeft_ray.report.html import block_id
from prunepeft_ray.report.write import table_latex, table_markdown

TABLE = Table(
    key="rows",
    title="What 50 % of A_b cost",
    data=pd.DataFrame({"method": ["a|b"], "value": [0.5]}),
    text=pd.DataFrame({"method": ["a|b"], "value": ["0.5 ± 0.1\n50 %"]}),
    basis=Basis("2 searches", "0, 1", "all", "test", ("one failed",)),
    caption="Mean & deviation",
)


def test_a_table_as_markdown_keeps_cells_apart_and_says_what_it_rests_on():
    assert table_markdown(TABLE) == (
        "**What 50 % of A\\_b cost**\n\n| method | value |\n| --- | --- |\n| a\\|b | 0.5 ± 0.1 50 % |\n\n"
        "Mean & deviation\n\nn: 2 searches; seeds: 0, 1; fidelity: all; measured on: test\n\none failed\n"
    )


def test_a_table_as_latex_escapes_what_latex_would_take_for_commands():
    text = table_latex(TABLE)
    assert r"a|b & 0.5 $\pm$ 0.1 50 \% \\" in text
    assert r"\caption{What 50 \% of A\_b cost. Mean \& deviation.}" in text
    assert r"\label{tab:rows}" in text
    assert "% n: 2 searches; seeds: 0, 1; fidelity: all; measured on: test\n% one failed\n" in text


def test_every_table_is_written_as_csv_markdown_and_latex_and_every_figure_as_csv(tmp_path):
    results = make_study(tmp_path / "study")
    write_report([results], tmp_path / "out" / "page.html")
    expected = {
        f"{block_id(section, block)}.{ending}"
        for section in build_report([results]).sections
        for block in section.blocks
        for ending in (("csv", "md", "tex") if isinstance(block, Table) else ("csv",))
    }
    assert {file.name for file in (tmp_path / "out" / "page").iterdir()} == expected
    assert (tmp_path / "out" / "page.html").is_file()


def test_csv_holds_numbers_and_not_text_for_reading(tmp_path):
    write_report([make_study(tmp_path / "study")], tmp_path / "page.html")
    (file,) = (tmp_path / "page").glob("overview-methods-*movie.csv")
    frame = pd.read_csv(file)
    assert frame.set_index("method").test_mean["prunepeft"] == pytest.approx((0.71 + 0.77) / 2)


def test_a_report_is_made_anew_in_the_place_of_an_earlier_one(tmp_path):
    results = make_study(tmp_path / "study")
    for _ in range(2):
        write_report([results], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_report_that_cannot_be_written_says_where_else_it_may_go(tmp_path):
    (tmp_path / "page").write_text("in the way")
    with pytest.raises(RunError, match=r"page/.* cannot be written \(.*\); choose another place with --output"):
        write_report([make_study(tmp_path / "study")], tmp_path / "page.html")
