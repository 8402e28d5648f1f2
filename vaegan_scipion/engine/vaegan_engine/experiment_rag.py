"""``reproduce rag``: one structure without an encoder, full model and ablations (thesis: RAG, EMPIAR-10049).

Real particles are given with --particles; then two halves are trained and compared. Without them, images of one map
are simulated (--maps, else the exosome of the data folder) and the map is compared with it.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import experiment, figures, results
from .evaluate import default_align
from .experiment import ReproduceOptions
from .experiment_training import Configuration, maps_of, simulated, trained, training_columns, training_command
from .mrc_io import read_map, write_map
from .presets import NO_NOISE, VARIANT
from .references import compare, frequencies_per_ang, read_references

MAP = "exosome_6FSZ/maps/full.mrc"
PRESET, SNR = "thesis-3d-homogeneous", 1.0
CHANGES: dict[str, dict[str, Any]] = {"homogeneous": {}, "homogeneous-no-noise": NO_NOISE,
                                      "homogeneous-variant": VARIANT}
THESIS: list[dict[str, Any]] = [{"configuration": "RAG, homogeneous (thesis)", "resolution_ang": 18.7},
          {"configuration": "RAG, no noise generator (thesis)", "resolution_ang": "> 50"},
          {"configuration": "RAG, variant (thesis)", "resolution_ang": "> 50"}]


def run(options: ReproduceOptions, out_dir: Path) -> str:
    """Run the configurations that are asked for, then the table and figure of all that are finished."""
    maps = [] if options.particles else maps_of(options, [MAP])[:1]
    star = Path(options.particles) if options.particles else out_dir / "data" / "particles.star"
    parts = (1, 2) if options.particles else (0,)
    lines = []
    if not options.plan and not options.particles:
        star = simulated(options, maps, out_dir / "data", snr=SNR, cs_mm=2.0)
    for name in experiment.chosen(options, list(CHANGES)):
        folders = []
        for half in parts:
            configuration = Configuration(name if half == 0 else f"{name}/half{half}", "train3d", PRESET,
                                          changes={**CHANGES[name], "data": {"half_set": half}})
            if options.plan:
                lines.append(training_command(options, configuration, star, out_dir))
            elif options.stop_after != "data":
                folders.append(trained(options, configuration, star, out_dir))
        if folders and options.stop_after == "all":
            experiment.write_row(out_dir / name, {"configuration": name, **analysed(folders, star, maps,
                                                                                  out_dir / name)})
    if options.plan:
        print("\n".join(lines), flush=True)
        return "\n".join(lines)
    rows = experiment.read_rows(out_dir, list(CHANGES))
    if rows:
        draw(rows, out_dir)
    source = Path(options.particles).name if options.particles else f"simulated {Path(maps[0]).stem}, SNR {SNR:g}"
    notes = [f"scale {options.scale}; {source}; CPU {experiment.machine()}",
             "resolution_ang: FSC 0.143 " + ("of two halves" if options.particles else "against the truth")]
    return experiment.write_table(out_dir, options.experiment, rows + THESIS, notes)


def analysed(folders: list[Path], star: Path, maps: list[str], out_dir: Path) -> dict[str, Any]:
    """The run's map against the truth, or the maps of two halves against each other."""
    made, voxel_size_ang = read_map(folders[0] / results.MAPS / "component_00.mrc")
    if maps:
        reference = read_references(maps, star.parent / "truth.csv", len(made), voxel_size_ang)[0].map
    else:
        reference = read_map(folders[1] / results.MAPS / "component_00.mrc")[0]
    found = default_align()(made, reference, voxel_size_ang)
    write_map(out_dir / "aligned.mrc", found.map, voxel_size_ang)
    write_map(out_dir / "reference.mrc", reference, voxel_size_ang)
    row = {"correlation": float(found.correlation), "mirrored": bool(found.mirrored),
           **compare(found.map, reference, voxel_size_ang)}
    results.write_json(out_dir / "comparison.json", row)
    return {"resolution_ang": row["resolution_0.143_ang"], "resolution_0.5_ang": row["resolution_0.5_ang"],
            "correlation": row["correlation"], **training_columns(folders[0])}


def draw(rows: list[dict[str, Any]], out_dir: Path) -> None:
    """Map, reference and FSC of each configuration."""
    figure = figures.new_figure(12, 3 * len(rows))
    for line, row in zip(figure.subplots(len(rows), 3, squeeze=False), rows, strict=True):
        folder = out_dir / row["configuration"]
        for ax, name in zip(line, ("aligned", "reference"), strict=False):
            array, voxel_size_ang = read_map(folder / f"{name}.mrc")
            figures.draw_density(ax, array, f"{row['configuration']}: {name}")
        fsc = np.array(results.read_json(folder / "comparison.json")["fsc"])
        line[2].plot(frequencies_per_ang(len(array), voxel_size_ang), fsc, color="#1f77b4")
        line[2].axhline(0.143, color="0.6", ls=":")
        line[2].set(xlabel="spatial frequency (1/Å)", ylabel="FSC", ylim=(-0.15, 1.05))
    figures.save_png(figure, out_dir / experiment.FIGURE_PNG)
