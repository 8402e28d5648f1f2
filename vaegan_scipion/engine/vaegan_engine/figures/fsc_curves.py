"""FSC curves as a table and a picture."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..contract import result_files
from ..contract.labels import CLUSTERS, Naming
from ..physics.map_comparison import frequencies_per_ang
from . import drawing


def write_fsc(rows: list[dict[str, Any]], out_dir: Path, title: str, naming: Naming = CLUSTERS) -> None:
    """Write ``fsc.csv`` and ``fsc.png`` of rows as ``compare_halves`` makes them, and print the resolutions."""
    table, curves = [], []
    for row in rows:
        if "fsc" not in row:
            print(f"{naming.name(row['cluster'])}: {row['note']}")
            continue
        fsc = np.array(row["fsc"])
        frequency = frequencies_per_ang(2 * (len(fsc) - 1), row["voxel_size_ang"])
        table += [[row["cluster"], "inf" if f == 0 else f"{1 / f:.6g}", f"{f:.8g}", f"{value:.6g}"]
                  for f, value in zip(frequency, fsc, strict=True)]
        resolution = row["resolution_0.143_ang"]
        curves.append(drawing.Curve(row["cluster"], f"{naming.name(row['cluster'])}: {resolution:.1f} Å",
                                    frequency, fsc))
        print(f"{naming.name(row['cluster'])}: halves agree to {resolution:.1f} A at FSC 0.143 "
              f"({row['nyquist_frac_0.143']:.2f} of Nyquist), {row['resolution_0.5_ang']:.1f} A at 0.5", flush=True)
    result_files.write_csv(out_dir / result_files.FSC_CSV,
                      ["cluster", "resolution_ang", "spatial_frequency_per_ang", "fsc"], table)
    figure = drawing.new_figure(6.0, 4.2)
    drawing.draw_fsc(figure.subplots(), curves, title, naming)
    drawing.save_png(figure, out_dir / "fsc.png")
