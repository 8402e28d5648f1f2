"""Reads the results that a report shows."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from ..contract import result_files
from ..contract.errors import DataError
from ..contract.map_records import MapComparison
from ..contract.record import read_record, read_records
from ..contract.records import Evaluation, HalvesRow


def read_json(path: Path, command: str) -> Any:
    """A results file, or a DataError that says which command makes it."""
    try:
        return result_files.read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: it cannot be read ({error}).", f"Run vaegan {command} first.") from error


def read_evaluation(folder: str) -> Evaluation:
    """``evaluation.json`` of a folder, or that file itself. Raises DataError."""
    path = Path(folder)
    return read_record(Evaluation, path / result_files.EVALUATION_JSON if path.is_dir() else path, "evaluate")


def read_halves(folder: str) -> list[HalvesRow]:
    """Rows of ``halves.json``; [] where no folder is named. Raises DataError."""
    return read_records(HalvesRow, Path(folder) / result_files.HALVES_JSON, "halves") if folder else []


def resolutions(halves: MapComparison) -> tuple[str, str, str]:
    """At FSC 0.143 and 0.5, and the first as part of Nyquist."""
    return (f"{halves.resolution_0143_ang:.1f} Å", f"{halves.resolution_05_ang:.1f} Å",
            f"{halves.nyquist_frac_0143:.2f}")
