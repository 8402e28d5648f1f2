"""Reads the results that a report shows."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

from ..contract import result_files
from ..contract.errors import DataError


def read_json(path: Path, command: str) -> Any:
    """A results file, or a DataError that says which command makes it."""
    try:
        return result_files.read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: it cannot be read ({error}).", f"Run vaegan {command} first.") from error


def read_picture(folder: str | Path, file: str, index: int) -> np.ndarray:
    """A map ``(d, d, d)``, or image ``index`` of a stack ``(d, d)``."""
    path = Path(folder) / file
    try:
        with mrcfile.mmap(path, mode="r", permissive=True) as stored:
            data = np.array(stored.data[index] if path.suffix == ".mrcs" else stored.data, np.float32)
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: it cannot be read ({error}).", "Run the command that made it again.") from error
    return data
