"""What the experiments of ``reproduce`` share: options, one row per configuration, table and machine line."""
from __future__ import annotations

import csv
import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract import result_files
from ..contract.errors import ConfigError
from ..contract.map_records import MapComparison
from ..contract.record import inlined
from ..contract.setting import section, setting
from ..contract.settings import ComputeConfig

# A row of an experiment's table: its columns by name. Which there are, each experiment says by what it measures.
Cell = str | float | None | Sequence[float | str]
TableRow = dict[str, Cell]
TABLE_CSV, TABLE_TXT, FIGURE_PNG, ROW_JSON = "table.csv", "table.txt", "figure.png", "row.json"
SCALES = ("small", "full")
STAGES = ("data", "train", "all")
# experiment -> (module with run(options, out_dir), one line of help)
EXPERIMENTS = {
    "shift-invariance": ("invariance", "features of digits under all 4,096 cyclic shifts"),
    "rotation-invariance": ("invariance", "features of digits under rotation by 0 to 355 degrees"),
    "noise-generator": ("noise_generator", "a GAN on one image: known noise of sigma 0.5 to 1.5, noise generator"),
    "ribosome-3d": ("ribosome", "three ribosome states in 3D: full model, camera, no noise, variant"),
    "ribosome-2d": ("ribosome", "the same images in 2D: full model, no noise, variant"),
    "fast-ladder": ("snr_ladder", "preset fast without poses at SNR 60 to 0.2, beside who is told more"),
    "glu-morph": ("motion_morph", "frames of a motion, matched with maps on the first principal component"),
    "rag": ("homogeneous", "one structure without an encoder: real particles, or simulated"),
}


@dataclass(frozen=True)
class ReproduceOptions:
    """One experiment, how large, on what data."""

    experiment: str = setting("", "See below", choices=tuple(EXPERIMENTS), required=True, positional=True)
    scale: str = setting("small", "small: two CPU cores, minutes to an hour; full: the thesis's (a GPU)",
                         choices=SCALES)
    data_dir: str = setting("", "Folder with the maps' folders", path=True, metavar="DIR")
    maps: tuple[str, ...] = setting((), "These maps in place of those of --data", path=True, metavar="MRC")
    models: tuple[str, str] = setting((), "glu-morph: first and last atomic model", path=True, metavar="PDB PDB")
    particles: str = setting("", "rag: real particles", path=True, metavar="STAR")
    only: str = setting("", "One configuration", metavar="CONFIGURATION")
    kimg: float = setting(0.0, "Length of every training", unit="kimg", low=1e-3, high=1e7, zero="that of the scale")
    per_map: int = setting(0, "Images of each map", low=1, zero="that of the scale")
    snr: float = setting(1.0, "Of simulated images (as in 'simulate'), and of the noise generator's image; the "
                         "thesis's own lie between 1.5 and 60", low=1e-6, high=1e6)
    defocus_range_ang: tuple[float, float] = setting(
        (10000.0, 28000.0), "Range of the mean defocus of simulated images, uniform; the thesis's own is 1000 to 5000",
        unit="A", low=1e-3, high=1e6, option="defocus", metavar="LOW HIGH")
    points: int = setting(1, "Points of the learning curve of ribosome-3d and -2d: embedding, clusters and scores "
                          "after each such part of a training", low=1, high=100)
    settings: tuple[str, ...] = setting((), "One setting of every training; may be repeated", repeated=True,
                                        option="set", metavar="SECTION.KEY=VALUE")
    stop_after: str = setting("all", "Stop after the data or the trainings", choices=STAGES)
    plan: bool = setting(False, "Print the commands of the trainings and stop")
    compute: ComputeConfig = section(ComputeConfig)


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


@dataclass(frozen=True)
class AlignedFigures:
    """A map aligned to a reference."""

    correlation: float
    mirrored: bool
    compared: MapComparison = inlined()
    state: str | None = None


def write_row(folder: Path, row: TableRow) -> None:
    """Keep the row of one configuration."""
    result_files.write_json(folder / ROW_JSON, row)


def read_rows(out_dir: Path, names: Sequence[str]) -> list[TableRow]:
    """Rows of the configurations that are finished, in order."""
    return [result_files.read_json(out_dir / name / ROW_JSON) for name in names if (out_dir / name / ROW_JSON).exists()]


def write_table(out_dir: Path, title: str, rows: Sequence[TableRow], notes: Sequence[str]) -> str:
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
