"""``reproduce glu-morph``: a continuous motion, its principal component and the frames it runs through (thesis, 11).

Ten frames of a motion, shifted by up to a quarter of the box (+-16 of 64 px). Four maps on the first principal
component of z, from its 5th to its 95th percentile, are matched with the frames. The thesis's frames are a morph of
mGlu3 (7MTQ to 7MTR): give both models with --models. The data folder has a path of adenylate kinase and a swivel
of the 30S head.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

from ..contract import result_files
from ..contract.errors import DataError
from ..contract.record import read_record
from ..data.mrc_files import read_map, write_map
from ..data.particle_tables import read_latents, read_truth, rows_of
from ..figures import drawing
from ..latent.traverse import traverse_points
from ..simulation.morph import morph_maps
from ..training.decoded import load_trained, write_decoded
from . import experiment_tables
from .experiment_tables import ReproduceOptions, TableRow
from .map_matching import MATCH_JSON, Matched, MatchOptions, run_match
from .trainings import (
    Configuration,
    clustered,
    embedded,
    simulated,
    trained,
    training_columns,
    training_command,
    truth_of,
)

FOLDERS = {"adk": ("adk_DIMS/maps", "frame_*.mrc"), "head-swivel": ("r30S_4ADV/maps", "head_swivel_*.mrc")}
N_FRAMES, MAX_SHIFT_FRAC = 10, 0.25
PRESETS = {"": "thesis-3d", "-variant": "thesis-3d-variant"}
MODEL_BOX_PX = 64
THESIS: list[TableRow] = [{"configuration": "mglu3 (thesis)", "clusters": 1, "best frames": [0, 4, 6, 10]},
          {"configuration": "mglu3-variant (thesis)", "best frames": "structure wrong"}]


def frames_of(options: ReproduceOptions, dataset: str, out_dir: Path) -> list[str]:
    """Map files of the frames of a motion, in order. Raises DataError."""
    if dataset == "mglu3":
        folder = out_dir / "mglu3-frames"
        paths = [folder / f"frame_{index:02d}.mrc" for index in range(N_FRAMES)]
        if not all(path.exists() for path in paths):
            maps, voxel_size_ang = morph_maps(options.models[0], options.models[1], N_FRAMES, MODEL_BOX_PX)
            for path, array in zip(paths, maps, strict=True):
                write_map(path, array, voxel_size_ang)
        return [str(path) for path in paths]
    if dataset == "maps":
        return list(options.maps)
    place, pattern = FOLDERS[dataset]
    in_order = sorted(str(path) for path in (Path(options.data_dir) / place).glob(pattern))
    if not in_order:
        raise DataError(f"{Path(options.data_dir) / place}: no map {pattern} is there.",
                        "Give the folder that holds it with --data, or maps of your own with --maps.")
    return in_order


def datasets(options: ReproduceOptions) -> list[str]:
    """The motions that the options name. Raises DataError."""
    names = (["maps"] if options.maps else []) + (["mglu3"] if options.models else []) + (
        list(FOLDERS) if options.data_dir else [])
    if not names:
        raise DataError("glu-morph needs the frames of a motion.",
                        "Give --data DIR, --models FIRST.pdb LAST.pdb, or --maps FRAME.mrc... in order.")
    return names


def run(options: ReproduceOptions, out_dir: Path) -> str:
    """Run the configurations that are asked for, then the table and figure of all that are finished."""
    names = {f"{dataset}{suffix}": Configuration(f"{dataset}{suffix}", "train3d", preset, f"data-{dataset}",
                                                 {"model": {"max_shift_frac": MAX_SHIFT_FRAC}})
             for dataset in datasets(options) for suffix, preset in PRESETS.items()}
    lines = []
    for name in experiment_tables.chosen(options, list(names)):
        configuration = names[name]
        folder = out_dir / configuration.dataset
        if options.plan:
            lines.append(training_command(options, configuration, folder / "particles.star", out_dir))
            continue
        frames = frames_of(options, configuration.dataset.removeprefix("data-"), out_dir)
        star = simulated(options, frames, folder, max_shift_frac=MAX_SHIFT_FRAC)
        if options.stop_after == "data":
            continue
        run_dir = trained(options, configuration, star, out_dir)
        if options.stop_after == "all":
            experiment_tables.write_row(out_dir / name, {"configuration": name,
                                                  **analysed(options, run_dir, star, frames)})
    if options.plan:
        print("\n".join(lines), flush=True)
        return "\n".join(lines)
    finished = sorted(path.parent.name for path in out_dir.glob(f"*/{experiment_tables.ROW_JSON}"))
    rows = experiment_tables.read_rows(out_dir, finished)
    if rows:
        draw(rows, out_dir)
    notes = [
        f"scale {options.scale}; {N_FRAMES} frames, shifts up to {MAX_SHIFT_FRAC:g} of the box, SNR {options.snr:g}; "
        f"CPU {experiment_tables.machine()}",
        "best frames: of the 4 maps on the first principal component of all z, by "
        "correlation after one alignment to the mean of the frames; order: their rank correlation; "
        "score order: |rank correlation| of the particles' scores with their frames",
    ]
    return experiment_tables.write_table(out_dir, options.experiment, rows + THESIS, notes)


def analysed(options: ReproduceOptions, run_dir: Path, star: Path, frames: list[str]) -> TableRow:
    """Clusters, the first principal component's maps matched with the frames."""
    from scipy.stats import spearmanr

    embedding_dir = embedded(options, run_dir, star, run_dir.parent)
    clusters_dir = clustered(options, run_dir, embedding_dir)
    latents, truth = read_latents(embedding_dir), read_truth(truth_of(star))
    frame = truth.label[rows_of(truth.particle_id, latents.particle_id, star)]
    points = traverse_points(latents.z, 1, 4, (5.0, 95.0), 0)
    axis = points[-1].z - points[0].z
    order = abs(float(spearmanr(latents.z @ axis, frame).statistic))
    decoder = load_trained(str(run_dir), options.compute)
    folder = run_dir.parent / "motion"
    made = write_decoded(decoder, np.stack([point.z for point in points]).astype(np.float32),
                         [f"pc1_{index}" for index in range(len(points))], folder)
    matched = run_match(MatchOptions(tuple(str(folder / one.file) for one in made), tuple(frames)), folder)
    best = matched.best if matched.best[0] <= matched.best[-1] else matched.best[::-1]
    return {
        "clusters": result_files.read_json(clusters_dir / result_files.CLUSTERING_JSON)["clusters"],
        "best frames": best,
        "order": None if matched.order is None else abs(matched.order),
        "score order": order,
        "correlation": [max(row) for row in matched.correlation],
        **training_columns(run_dir),
    }


def draw(rows: list[TableRow], out_dir: Path) -> None:
    """Per configuration: correlation of each map with the frames, and the maps."""
    figure = drawing.new_figure(15, 2.9 * len(rows))
    axes = figure.subplots(len(rows), 5, squeeze=False, width_ratios=[4, 3, 3, 3, 3])
    for line, row in zip(axes, rows, strict=True):
        folder = out_dir / str(row["configuration"]) / "motion"
        matched = read_record(Matched, folder / MATCH_JSON, "match")
        for index, values in enumerate(matched.correlation):
            line[0].plot(values, marker="o", ms=3, label=f"map {index + 1}")
            array, _ = read_map(folder / f"maps/aligned_{index:02d}.mrc")
            drawing.draw_density(line[1 + index], array, f"map {index + 1}: frame {matched.best[index]}")
        line[0].set(xlabel="frame", ylabel="correlation", title=row["configuration"])
        line[0].legend(fontsize=7)
    drawing.save_png(figure, out_dir / experiment_tables.FIGURE_PNG)
