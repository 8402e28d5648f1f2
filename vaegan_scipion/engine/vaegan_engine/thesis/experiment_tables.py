"""What the experiments of ``reproduce`` share: options, one row per configuration, table and machine line."""
from __future__ import annotations

import csv
import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contract import result_files
from ..contract.errors import ConfigError
from ..contract.settings import ComputeConfig

TABLE_CSV, TABLE_TXT, FIGURE_PNG, ROW_JSON = "table.csv", "table.txt", "figure.png", "row.json"
SCALES = ("small", "full")
STAGES = ("data", "train", "all")


@dataclass(frozen=True)
class ReproduceOptions:
    """One experiment, how large, on what data."""

    experiment: str = ""
    scale: str = "small"
    data_dir: str = ""  # folder with the maps' folders
    maps: tuple[str, ...] = ()  # these maps in place of those of data_dir
    models: tuple[str, ...] = ()  # glu-morph: two atomic models
    particles: str = ""  # rag: real particles
    only: str = ""  # one configuration
    kimg: float = 0.0  # length of every training; 0 = that of the scale
    per_map: int = 0  # images of each map; 0 = that of the scale
    settings: tuple[str, ...] = ()  # SECTION.KEY=VALUE for every training
    stop_after: str = "all"
    plan: bool = False  # print the commands of the trainings and stop
    compute: ComputeConfig = field(default_factory=ComputeConfig)


def chosen(options: ReproduceOptions, names: Sequence[str]) -> list[str]:
    """The configurations asked for. Raises ConfigError."""
    if not options.only:
        return list(names)
    if options.only not in names:
        raise ConfigError(f"--only is {options.only!r}.",
                          f"Configurations of {options.experiment}: {', '.join(names)}.")
    return [options.only]


def machine() -> str:
    """Processor of this machine, in words."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return name


def write_row(folder: Path, row: dict[str, Any]) -> None:
    """Keep the row of one configuration."""
    result_files.write_json(folder / ROW_JSON, row)


def read_rows(out_dir: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the configurations that are finished, in order."""
    return [result_files.read_json(out_dir / name / ROW_JSON) for name in names if (out_dir / name / ROW_JSON).exists()]


def write_table(out_dir: Path, title: str, rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> str:
    """``table.csv`` and ``table.txt`` (the same with title and notes); returns the text.

    The columns are those of all rows together; a value that a row lacks is '-'.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[shown(row.get(name)) for name in columns] for row in rows]
    result_files.write_csv(out_dir / TABLE_CSV, columns, cells)
    widths = [max(len(name), *(len(line[i]) for line in cells)) if cells else len(name)
              for i, name in enumerate(columns)]
    lines = [title, *notes, ""]
    lines += ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
              for line in [columns, ["-" * width for width in widths], *cells]]
    text = "\n".join(lines) + "\n"
    (out_dir / TABLE_TXT).write_text(text)
    print(text, flush=True)
    return text


def shown(value: Any) -> str:
    """A value of the table as text."""
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e-3 or abs(value) >= 1e4 else f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, (list, tuple)):
        return " / ".join(shown(item) for item in value)
    return str(value)


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a ``table.csv``."""
    return list(csv.DictReader(io.StringIO(path.read_text())))
