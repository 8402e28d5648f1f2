"""FSC curves as a table and a picture."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..contract import result_files, wording
from ..contract.labels import CLUSTERS, Naming
from ..physics.map_comparison import frequencies_per_ang
from . import drawing


def write_fsc(rows: list[dict[str, Any]], out_dir: Path, title: str, naming: Naming = CLUSTERS) -> None:
    """Write ``fsc.csv`` and ``fsc.png`` of rows as ``compare_halves`` makes them, and print the resolutions.

    Where rows also hold ``fsc_raw``, ``fsc_masked`` and ``shared_shell`` the table has these too, ``proven`` being 1
    beyond the shared shells, and the picture shows what is not proven in grey.
    """
    table, curves = [], []
    for row in rows:
        if "fsc" not in row:
            print(f"{naming.name(row['cluster'])}: {row['note']}")
            continue
        fsc = np.array(row["fsc"])
        frequency = frequencies_per_ang(2 * (len(fsc) - 1), row["voxel_size_ang"])
        more = [[f"{value:.6g}" for value in row[name]] for name in ("fsc_raw", "fsc_masked") if name in row]
        if "shared_shell" in row:
            more.append([str(int(shell > row["shared_shell"])) for shell in range(len(fsc))])
        table += [[row["cluster"], "inf" if f == 0 else f"{1 / f:.6g}", f"{f:.8g}", f"{value:.6g}", *others]
                  for f, value, *others in zip(frequency, fsc, *more, strict=True)]
        curves += curves_of(row, naming)
        print(f"{naming.name(row['cluster'])}: {wording.halves_text(row)}", flush=True)
    columns = ["cluster", "resolution_ang", "spatial_frequency_per_ang", "fsc"]
    columns += ["fsc_raw", "fsc_masked", "proven"][:len(table[0]) - len(columns)] if table else []
    result_files.write_csv(out_dir / result_files.FSC_CSV, columns, table)
    figure = drawing.new_figure(6.0, 4.2)
    drawing.draw_fsc(figure.subplots(), curves, title, naming, unproven_per_ang(rows))
    drawing.save_png(figure, out_dir / "fsc.png")


def curves_of(row: dict[str, Any], naming: Naming) -> list[drawing.Curve]:
    """The FSC of a row, and dashed the one without mask, where it has one."""
    frequency = frequencies_per_ang(2 * (len(row["fsc"]) - 1), row["voxel_size_ang"])
    text = f"{naming.name(row['cluster'])}: {row['resolution_0.143_ang']:.1f} Å"
    if not row.get("proven_0.143", True):
        text = f"{naming.name(row['cluster'])}: not proven"
    curves = [drawing.Curve(row["cluster"], text, frequency, np.array(row["fsc"]))]
    if "fsc_raw" in row:
        curves.append(drawing.Curve(row["cluster"], "_without mask", frequency, np.array(row["fsc_raw"]), "--"))
    return curves


def unproven_per_ang(rows: list[dict[str, Any]]) -> float:
    """Spatial frequency (1/A) up to which nothing is proven of any of the rows; 0 where all is."""
    return max((1 / row["shared_ang"] for row in rows if "shared_ang" in row), default=0.0)
