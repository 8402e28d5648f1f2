"""Columns of a table: kinds, what is absent, and memory."""
import tracemalloc

import numpy as np
import pytest
from vaegan_engine.contract.result_files import csv_header, read_columns, write_csv


def test_columns_are_of_the_kind_that_is_asked_for(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('\ufeffid, x ,name,more\n7, 0.5 ,"a, b",1\n\n-2,nan, c ,2\n', encoding="utf-8")
    assert csv_header(path) == ["id", "x", "name", "more"]
    made = read_columns(path, {"id": int, "x": float, "name": str, "y": float}, absent={"y": "3"})
    assert made["id"].tolist() == [7, -2] and made["id"].dtype == np.int64
    np.testing.assert_array_equal(made["x"], [0.5, np.nan])
    assert made["name"].tolist() == ["a, b", "c"] and made["y"].tolist() == [3, 3]


def test_a_value_that_is_absent_is_taken_from_what_is_said(tmp_path):
    write_csv(tmp_path / "t.csv", ["id", "x"], [[1, ""], [2, 5]])
    assert read_columns(tmp_path / "t.csv", {"x": float}, absent={"x": "1"})["x"].tolist() == [1, 5]


def test_a_table_without_rows_has_columns_of_none(tmp_path):
    write_csv(tmp_path / "t.csv", ["id", "name"], [])
    made = read_columns(tmp_path / "t.csv", {"id": int, "name": str})
    assert made["id"].shape == made["name"].shape == (0,) and made["id"].dtype == np.int64


@pytest.mark.parametrize(("row", "error"), [
    ([1], "line 3"), (["one", 2], "line 3"), ([1, ""], "line 3"), ([2 ** 70, 2], "line 3")])
def test_rows_that_cannot_be_read_are_named(tmp_path, row, error):
    write_csv(tmp_path / "t.csv", ["id", "x"], [[1, 2], row])
    with pytest.raises(ValueError, match=error):
        read_columns(tmp_path / "t.csv", {"id": int, "x": float})


def test_a_column_that_is_not_there_is_a_key_error(tmp_path):
    write_csv(tmp_path / "t.csv", ["id"], [[1]])
    with pytest.raises(KeyError, match="half_set"):
        read_columns(tmp_path / "t.csv", {"id": int, "half_set": int})


def test_memory_is_that_of_the_columns(tmp_path):
    """Not of a dictionary for each row, which takes more than ten times as much."""
    n, names = 20_000, [f"c{i}" for i in range(12)]
    write_csv(tmp_path / "t.csv", names, ([k + i / 7 for i in range(12)] for k in range(n)))
    tracemalloc.start()
    made = read_columns(tmp_path / "t.csv", dict.fromkeys(names, float))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(made["c3"]) == n and peak < 3 * 8 * 12 * n
