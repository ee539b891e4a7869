"""Tables that spreadsheets take no formula from, and that come back as they were."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rmer.data.csv_tables import escaped, read_table, table_text, unescaped, write_table

HARMFUL = [
    *("=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", '=a,"b"', "\uff1dx", "'=x", "''=x"),
    *("\t=1", "\r=1", "\n=1"),
]
HARMLESS = [
    *("A2M2E", "", "007", "-1", "+2.5", "-1e-05", ".5", "'quoted'", "a=b", "A - B", "NA", "nan", "None"),
    *("a\rb", "1,5", '"'),
]


@pytest.mark.parametrize("text", HARMFUL)
def test_texts_like_formulas_get_an_apostrophe(text: str) -> None:
    assert escaped(text) == f"'{text}"
    assert unescaped(escaped(text)) == text


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay(text: str) -> None:
    assert escaped(text) == text
    assert unescaped(text) == text


def test_names_and_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    names = [*HARMFUL, *HARMLESS]
    numbers = np.linspace(-1 / 3, 1e-9, len(names))
    numbers[1] = np.nan
    kinds = pd.Categorical(["=a", "b", "c"] * (len(names) // 3))
    frame = pd.DataFrame({"clip": names, "x": numbers, "study": kinds, "=sum": range(-5, len(names) - 5)})
    write_table(frame, tmp_path / "table.csv")
    assert table_text(frame) == (tmp_path / "table.csv").read_bytes().decode()
    read = read_table(tmp_path / "table.csv", where="table.csv")
    assert list(read) == ["clip", "x", "study", "=sum"]
    assert read["clip"].tolist() == names
    assert read["study"].tolist() == list(kinds)
    np.testing.assert_array_equal(read["x"], numbers)
    np.testing.assert_array_equal(read["=sum"], frame["=sum"])
    with (tmp_path / "table.csv").open(newline="") as stream:
        for row in csv.reader(stream):
            assert not [cell for cell in row if cell[:1] in tuple("=+-@\t\r\n") and not is_number(cell)]


def test_what_is_not_there_stays_not_there(tmp_path: Path) -> None:
    frame = pd.DataFrame({"clip": ["a", ""], "detail": ["=x", None], "value": [np.nan, -1.0]})
    write_table(frame, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "clip,detail,value\na,'=x,\n,,-1.0\n"
    read = read_table(tmp_path / "table.csv", where="table.csv")
    assert read["clip"].tolist() == ["a", ""]
    assert read["detail"].isna().tolist() == [False, True]
    assert read["value"].isna().tolist() == [True, False]


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
