"""FSC curves as a table and a picture."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..contract import result_files, wording
from ..contract.drawings import Curve, draw_fsc, frequencies_per_ang
from ..contract.labels import CLUSTERS, Naming
from ..contract.map_records import HalvesProof, MapComparison
from . import drawing


@dataclass(frozen=True)
class HalvesFsc:
    """Two half maps of one group, compared; or a note that says why they are not."""

    label: int
    voxel_size_ang: float = 0.0
    halves: MapComparison | None = None
    proof: HalvesProof | None = None
    note: str | None = None

    def curves(self, naming: Naming = CLUSTERS) -> list[Curve]:
        """The FSC with its resolution, and dashed the one without mask, where it has one; [] without half maps."""
        if self.halves is None:
            return []
        frequency = frequencies_per_ang(self.halves.map_box_px, self.voxel_size_ang)
        text = f"{naming.name(self.label)}: {self.halves.resolution_0143_ang:.1f} Å"
        if self.proof is None:
            return [Curve(self.label, frequency, self.halves.fsc, text)]
        if not self.proof.proven_0143:
            text = f"{naming.name(self.label)}: not proven"
        return [Curve(self.label, frequency, self.halves.fsc, text),
                Curve(self.label, frequency, self.proof.fsc_raw, "_without mask", "--")]

    def lines(self) -> list[list[str]]:
        """Lines of ``fsc.csv``: with a proof the curves without mask and uncorrected too, and what is proven."""
        if self.halves is None:
            return []
        frequency = frequencies_per_ang(self.halves.map_box_px, self.voxel_size_ang)
        lines = [[str(self.label), "inf" if f == 0 else f"{1 / f:.6g}", f"{f:.8g}", f"{value:.6g}"]
                 for f, value in zip(frequency, self.halves.fsc, strict=True)]
        if self.proof is None:
            return lines
        return [[*line, f"{raw:.6g}", f"{masked:.6g}", str(int(shell > self.proof.shared_shell))]
                for shell, (line, raw, masked) in enumerate(zip(lines, self.proof.fsc_raw, self.proof.fsc_masked,
                                                                strict=True))]


def write_fsc(rows: Sequence[HalvesFsc], out_dir: Path, title: str, naming: Naming = CLUSTERS) -> None:
    """Write ``fsc.csv`` and ``fsc.png`` of half maps, and print the resolutions.

    Where rows have a proof the table has ``fsc_raw``, ``fsc_masked`` and ``proven``, 1 beyond the shared shells, and
    the picture shows what is not proven in grey.
    """
    for row in rows:
        text = row.note if row.halves is None else wording.halves_text(row.halves, row.proof)
        print(f"{naming.name(row.label)}: {text}", flush=True)
    table = [line for row in rows for line in row.lines()]
    columns = ["cluster", "resolution_ang", "spatial_frequency_per_ang", "fsc"]
    columns += ["fsc_raw", "fsc_masked", "proven"][:len(table[0]) - len(columns)] if table else []
    result_files.write_csv(out_dir / result_files.FSC_CSV, columns, table)
    curves = [curve for row in rows for curve in row.curves(naming)]
    figure = drawing.new_figure(6.0, 4.2)
    draw_fsc(figure.subplots(), curves, title, naming, unproven_per_ang(rows))
    drawing.save_png(figure, out_dir / "fsc.png")


def unproven_per_ang(rows: Sequence[HalvesFsc]) -> float:
    """Spatial frequency (1/A) up to which nothing is proven of any of the rows; 0 where all is."""
    return max((1 / row.proof.shared_ang for row in rows if row.proof is not None), default=0.0)
