"""``reproduce rag``: one structure without an encoder, full model and ablations (thesis: RAG, EMPIAR-10049).

Real particles are given with --particles; then two halves are trained and compared. Without them, images of one map
are simulated (--maps, else the exosome of the data folder) and the map is compared with it.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..contract import result_files
from ..contract.drawings import frequencies_per_ang
from ..contract.presets import NO_NOISE, VARIANT
from ..contract.record import read_record, write_record
from ..data.mrc_files import read_map, write_map
from ..evaluation.truth.reference_maps import read_references
from ..figures import drawing
from ..physics.map_alignment import align_map
from ..physics.map_comparison import compare
from . import experiment_tables
from .experiment_tables import AlignedFigures, ReproduceOptions, TableRow
from .trainings import Configuration, maps_of, simulated, trained, training_columns, training_command

MAP = "exosome_6FSZ/maps/full.mrc"
COMPARISON_JSON = "comparison.json"
PRESET = "thesis-3d-homogeneous"
CHANGES: dict[str, dict[str, Any]] = {"homogeneous": {}, "homogeneous-no-noise": NO_NOISE,
                                      "homogeneous-variant": VARIANT}
THESIS: list[TableRow] = [{"configuration": "RAG, homogeneous (thesis)", "resolution_ang": 18.7},
          {"configuration": "RAG, no noise generator (thesis)", "resolution_ang": "> 50"},
          {"configuration": "RAG, variant (thesis)", "resolution_ang": "> 50"}]


def run(options: ReproduceOptions, out_dir: Path) -> str:
    """Run the configurations that are asked for, then the table and figure of all that are finished."""
    maps = [] if options.particles else maps_of(options, [MAP])[:1]
    star = Path(options.particles) if options.particles else out_dir / "data" / "particles.star"
    parts = (1, 2) if options.particles else (0,)
    lines = []
    if not options.plan and not options.particles:
        star = simulated(options, maps, out_dir / "data")
    for name in experiment_tables.chosen(options, list(CHANGES)):
        folders = []
        for half in parts:
            configuration = Configuration(name if half == 0 else f"{name}/half{half}", "train3d", PRESET,
                                          changes={**CHANGES[name], "data": {"half_set": half}})
            if options.plan:
                lines.append(training_command(options, configuration, star, out_dir))
            elif options.stop_after != "data":
                folders.append(trained(options, configuration, star, out_dir))
        if folders and options.stop_after == "all":
            experiment_tables.write_row(out_dir / name, {"configuration": name, **analysed(folders, star, maps,
                                                                                  out_dir / name)})
    if options.plan:
        print("\n".join(lines), flush=True)
        return "\n".join(lines)
    rows = experiment_tables.read_rows(out_dir, list(CHANGES))
    if rows:
        draw(rows, out_dir)
    source = (Path(options.particles).name if options.particles
              else f"simulated {Path(maps[0]).stem}, SNR {options.snr:g}")
    notes = [f"scale {options.scale}; {source}; CPU {experiment_tables.machine()}",
             "resolution_ang: FSC 0.143 " + ("of two halves" if options.particles else "against the truth")]
    return experiment_tables.write_table(out_dir, options.experiment, rows + THESIS, notes)


def analysed(folders: list[Path], star: Path, maps: list[str], out_dir: Path) -> TableRow:
    """The run's map against the truth, or the maps of two halves against each other."""
    made, voxel_size_ang = read_map(folders[0] / result_files.MAPS / "component_00.mrc")
    if maps:
        reference = read_references(maps, star.parent / "truth.csv", len(made), voxel_size_ang)[0].map
    else:
        reference = read_map(folders[1] / result_files.MAPS / "component_00.mrc")[0]
    aligned = align_map(made, reference, voxel_size_ang)
    write_map(out_dir / "aligned.mrc", aligned.map, voxel_size_ang)
    write_map(out_dir / "reference.mrc", reference, voxel_size_ang)
    row = AlignedFigures(float(aligned.correlation), bool(aligned.mirrored),
                         compare(aligned.map, reference, voxel_size_ang))
    write_record(out_dir / COMPARISON_JSON, row)
    return {"resolution_ang": row.compared.resolution_0143_ang, "resolution_0.5_ang": row.compared.resolution_05_ang,
            "correlation": row.correlation, **training_columns(folders[0])}


def draw(rows: list[TableRow], out_dir: Path) -> None:
    """Map, reference and FSC of each configuration."""
    figure = drawing.new_figure(12, 3 * len(rows))
    for line, row in zip(figure.subplots(len(rows), 3, squeeze=False), rows, strict=True):
        folder = out_dir / str(row["configuration"])
        for ax, name in zip(line, ("aligned", "reference"), strict=False):
            array, voxel_size_ang = read_map(folder / f"{name}.mrc")
            drawing.draw_density(ax, array, f"{row['configuration']}: {name}")
        fsc = np.array(read_record(AlignedFigures, folder / COMPARISON_JSON, "reproduce").compared.fsc)
        line[2].plot(frequencies_per_ang(len(array), voxel_size_ang), fsc, color="#1f77b4")
        line[2].axhline(0.143, color="0.6", ls=":")
        line[2].set(xlabel="spatial frequency (1/Å)", ylabel="FSC", ylim=(-0.15, 1.05))
    drawing.save_png(figure, out_dir / experiment_tables.FIGURE_PNG)
