import io

import numpy as np
import pandas as pd
import pytest

from prunepeft_ray.report.csv_text import to_csv


@pytest.mark.parametrize(
    "text", ["=bad", "+a", "-a", "@SUM(A1)", "=1", "-", "+", "-1+2", "\tx", "\r=1", "\n=1", "-1 ", "=1e5"]
)
def test_a_text_that_a_spreadsheet_takes_for_a_formula_gets_an_apostrophe(text):
    found = pd.read_csv(io.StringIO(to_csv(pd.DataFrame({"a": [text, "b"]})), newline=""), dtype=str)
    assert list(found.a) == ["'" + text.replace("\r", "\n"), "b"]


def test_no_text_ends_a_row():
    frame = pd.DataFrame({"a": ["x\r=1\r\n=2\n=3"], "b": [1]})
    assert to_csv(frame) == 'a,b\n"x\n=1\n=2\n=3",1\n'


@pytest.mark.parametrize("text", ["-1", "+2.5", "-1e-5", "-inf", "a=b", "'=1", "", "label", "–", "<!-- good"])
def test_numbers_and_other_texts_stay(text):
    frame = pd.DataFrame({"a": [text, "b"]})
    assert to_csv(frame) == frame.to_csv(index=False)


def test_columns_of_every_kind_are_written_as_pandas_writes_them():
    frame = pd.DataFrame(
        {
            "whole": [-1, 2],
            "real": [-0.5, np.nan],
            "truth": [True, False],
            "time": pd.to_datetime(["2026-01-01", None]),
            "mixed": [-1, None],
            "nothing": [None, None],
            "choice": pd.Categorical(["a", "b"]),
        }
    )
    assert to_csv(frame) == frame.to_csv(index=False)
    assert to_csv(frame[:0]) == frame[:0].to_csv(index=False)


def test_headings_and_categories_are_cells_too():
    frame = pd.DataFrame({"=cmd": pd.Categorical(["@a", "b"])})
    assert to_csv(frame) == "'=cmd\n'@a\nb\n"
