"""Rows of results: written once, read back, never overwritten."""
import json

import pytest
from vaegan_engine.contract.errors import DataError
from vaegan_engine.evaluation.benchmark.benchmark import BenchmarkOptions, TaskRow, result_row
from vaegan_engine.evaluation.benchmark.result_rows import ResultRow, measured, read_rows, write_row


def test_a_row_comes_back_and_is_not_overwritten(tmp_path):
    row = measured("ribo3", {"nmi": 0.99, "states": 3}, "vaegan benchmark --only ribo3", 1, threads=2)
    assert row.machine and row.date
    first, second = write_row(row, tmp_path), write_row(row, tmp_path)
    assert first != second
    assert read_rows(tmp_path) == [row, row]


def test_rows_are_ordered_by_task_seed_and_date(tmp_path):
    rows = [ResultRow(task, {}, "c", seed, date=date) for task, seed, date in (
        ("b", 0, "2026-01-01"), ("a", 1, "2026-01-01"), ("a", 0, "2026-02-01"), ("a", 0, "2026-01-01"))]
    for row in rows:
        write_row(row, tmp_path)
    assert read_rows(tmp_path) == [rows[3], rows[2], rows[1], rows[0]]


def test_another_file_is_named(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"task": "t"}))
    with pytest.raises(DataError, match=r"x.json: it is no row of results"):
        read_rows(tmp_path)


def test_a_task_of_the_scoreboard_becomes_a_row():
    scored = TaskRow("ribo3", 2, 90, 1.0, "4 states", 2.0, {"per_map": 30},
                     figures={"states": 3, "found": 4, "nmi": 0.5, "ami": 0.4})
    row = result_row(scored, BenchmarkOptions(data_dir="x", suite="quick", beside="nothing"))
    assert row.task == "ribo3-quick"
    assert row.figures == {"images": 90, "snr": 1.0, "states": 4, "nmi": 0.5, "ami": 0.4, "minutes": 2.0,
                           "verdict": "4 states"}
    assert row.command == "vaegan benchmark --data MAPS --suite quick --only ribo3 --seed 2"
    assert (row.seed, row.beside, row.settings) == (2, "nothing", {"per_map": 30})
