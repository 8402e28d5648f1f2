"""``reproduce ribosome-3d`` and ``ribosome-2d``: a mixture of ribosome states, full model and ablations (thesis, 14.2).

All configurations see the same images for the same number of steps. Per configuration: groups by UMAP and
HDBSCAN with NMI, and in 3D the resolution of the map decoded at the mean z of each true state's particles
(the thesis injects known projections where clusters fail; here it is done for all alike) against the true map.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..contract import result_files
from ..contract.drawings import draw_umap, frequencies_per_ang
from ..contract.labels import Naming, state_colour
from ..contract.record import write_records
from ..contract.settings import EvaluateRun
from ..data.mrc_files import write_map
from ..data.particle_tables import read_clusters, read_latents, read_truth, rows_of
from ..evaluation.truth.evaluate import run_evaluate
from ..evaluation.truth.reference_maps import read_references
from ..figures import drawing
from ..physics.map_alignment import align_map
from ..physics.map_comparison import compare
from ..training.decoded import load_trained
from . import experiment_tables, learning_curve
from .experiment_tables import AlignedFigures, ReproduceOptions, TableRow
from .trainings import (
    Configuration,
    clustered,
    embedded,
    maps_of,
    seen_kimg,
    settings,
    simulated,
    trained,
    training_columns,
    training_command,
    traversed,
    truth_of,
)

MAPS = ["ribo50S_4states/maps/r50S_B_like_64.mrc", "ribo50S_4states/maps/r50S_C_or_D_like_a_64.mrc",
        "ribo50S_4states/maps/r50S_E_like_64.mrc"]
# the feature network and the images of each kind; the original VGG-19 is 64 wide
FID: dict[str, dict[str, int]] = {"small": {"width": 16, "steps": 400, "n_images": 2000},
                                  "full": {"width": 64, "steps": 20000, "n_images": 10000}}
CONFIGURATIONS = {
    "train3d": ("thesis-3d", "thesis-3d-camera", "thesis-3d-no-noise", "thesis-3d-variant"),
    "train2d": ("thesis-2d", "thesis-2d-no-noise", "thesis-2d-variant")}
THESIS_ROWS: dict[str, list[TableRow]] = {
    "train3d": [
        {"configuration": "thesis-3d (thesis)", "clusters": 3, "nmi": 0.92, "resolution_ang": [10.24, 11.35, 12.3]},
        {"configuration": "thesis-3d-camera (thesis)", "clusters": 1, "nmi": 0.0, "resolution_ang": ["> 50"]},
        {"configuration": "thesis-3d-no-noise (thesis)", "clusters": 1, "nmi": 0.0,
         "resolution_ang": [13.1, 17.2, 20.4]},
        {"configuration": "thesis-3d-variant (thesis)", "clusters": 1, "nmi": 0.0,
         "resolution_ang": [16.77, 18.6, 18.7]}],
    "train2d": [
        {"configuration": "thesis-2d (thesis)", "clusters": 2, "nmi": 0.44, "fid": 21.4},
        {"configuration": "thesis-2d-no-noise (thesis)", "clusters": 1, "fid": 22.2},
        {"configuration": "thesis-2d-variant (thesis)", "clusters": 1, "fid": 34.1}]}


def run(options: ReproduceOptions, out_dir: Path) -> str:
    """Run the configurations that are asked for, then write the table and figure of all that are finished."""
    command = "train3d" if options.experiment == "ribosome-3d" else "train2d"
    names = CONFIGURATIONS[command]
    maps = maps_of(options, MAPS)
    star = out_dir / "data" / "particles.star"
    wanted = [Configuration(name, command, name) for name in experiment_tables.chosen(options, names)]
    if options.plan:
        lines = [training_command(options, configuration, star, out_dir) for configuration in wanted]
        print("\n".join(lines), flush=True)
        return "\n".join(lines)
    star = simulated(options, maps, out_dir / "data")
    if options.stop_after == "data":
        return ""
    for configuration in wanted:
        run_dir = followed(options, configuration, star, maps)
        if options.stop_after == "train":
            continue
        analyse = analysed_3d if command == "train3d" else analysed_2d
        experiment_tables.write_row(out_dir / configuration.name,
                             {"configuration": configuration.name, **analyse(options, run_dir, star, maps)})
    rows = experiment_tables.read_rows(out_dir, names)
    draw(out_dir, [str(row["configuration"]) for row in rows], star, command)
    learning_curve.draw_curves(out_dir, names)
    notes = [
        f"scale {options.scale}; {len(maps)} states: {', '.join(Path(name).stem for name in maps)}; "
        f"SNR {options.snr:g}, defocus {options.defocus_range_ang[0]:g} to {options.defocus_range_ang[1]:g} A; "
        f"CPU {experiment_tables.machine()}",
        "resolution_ang: FSC 0.143 of the map of each state against the truth",
    ]
    return experiment_tables.write_table(out_dir, options.experiment, rows + THESIS_ROWS[command], notes)


def followed(options: ReproduceOptions, configuration: Configuration, star: Path, maps: list[str]) -> Path:
    """The finished training, with a point of its learning curve after each part of it but the last.

    A point that is there is kept; one that a training has passed already is left out, with a word.
    """
    out_dir = star.parent.parent
    run, folder = settings(options, configuration, star), out_dir / configuration.name
    *before, whole = learning_curve.lengths_kimg(options, run.training.total_kimg, run.training.batch_size)
    for kimg in before if options.stop_after == "all" else []:
        if any(point.kimg == kimg for point in learning_curve.read_curve(folder)):
            continue
        if seen_kimg(folder / "run") > kimg:
            print(f"{folder}: no point at {kimg:g} kimg, which the training has passed", flush=True)
            continue
        run_dir = trained(replace(options, kimg=kimg), configuration, star, out_dir)
        scored = grouped(options, run_dir, star, folder / learning_curve.POINTS / f"{kimg:08.3f}kimg")
        correlation = float("nan")
        if configuration.command == "train3d":
            correlation = mean_correlation(state_figures(options, run_dir, scored, star, maps))
        add_point(run_dir, scored, star, correlation)
    return trained(replace(options, kimg=whole), configuration, star, out_dir)


class Grouped(NamedTuple):
    """Where a training's embedding and clusters are, and how the clusters agree with the states."""

    embedding_dir: Path
    clusters_dir: Path
    scores: dict[str, float]


def grouped(options: ReproduceOptions, run_dir: Path, star: Path, into: Path) -> Grouped:
    """Embedding and clusters, in ``into``, and scores of a training."""
    embedding_dir = embedded(options, run_dir, star, into)
    clusters_dir = clustered(options, run_dir, embedding_dir)
    labels = run_evaluate(EvaluateRun(clusters_dir=str(clusters_dir), truth_csv=str(truth_of(star)),
                                      compute=options.compute), into / "evaluation").labels
    assert labels is not None  # a truth was given
    return Grouped(embedding_dir, clusters_dir, {"clusters": labels.clusters, "nmi": labels.nmi, "ami": labels.ami,
                                                 "ari": labels.ari})


def add_point(run_dir: Path, scored: Grouped, star: Path, correlation: float) -> learning_curve.Point:
    """Add where the training stands to its learning curve, and return it."""
    latents, truth = read_latents(scored.embedding_dir), read_truth(truth_of(star))
    state = truth.label[rows_of(truth.particle_id, latents.particle_id, star)]
    neighbours = learning_curve.neighbours_nmi(latents.z, state)
    last = (result_files.read_jsonl(run_dir / result_files.LOG_JSONL) or [{}])[-1]
    point = learning_curve.Point(
        seen_kimg(run_dir), int(scored.scores["clusters"]), scored.scores["nmi"], neighbours, correlation,
        *(float(last.get(name, "nan")) for name in ("kl", "scf", "noise_sigma")))
    learning_curve.add_point(run_dir.parent, point)
    return point


def mean_correlation(figures: Sequence[AlignedFigures]) -> float:
    """Mean correlation of the states' decoded maps with the truth."""
    return float(np.mean([figure.correlation for figure in figures]))


def state_means(embedding_dir: Path, truth_csv: Path) -> tuple[np.ndarray, list[str]]:
    """Mean z ``(s, k)`` of the particles of each true state, and the states' names."""
    latents, truth = read_latents(embedding_dir), read_truth(truth_csv)
    state = truth.label[rows_of(truth.particle_id, latents.particle_id, truth_csv)]
    return np.stack([latents.z[state == s].mean(axis=0) for s in range(len(truth.names))]), truth.names


def state_figures(options: ReproduceOptions, run_dir: Path, scored: Grouped, star: Path, maps: list[str],
                  ) -> list[AlignedFigures]:
    """Maps decoded at the mean z of each true state against the truth; written to ``states`` beside the embedding."""
    into = scored.embedding_dir.parent / "states"
    decoder = load_trained(str(run_dir), options.compute)
    z, names = state_means(scored.embedding_dir, truth_of(star))
    made = decoder.decode(z)
    references = {Path(reference.name).name: reference.map for reference in read_references(
        maps, truth_of(star), decoder.box_px, decoder.pixel_size_ang)}
    rows = []
    for name, array in zip(names, made, strict=True):
        aligned = align_map(array, references[name], decoder.pixel_size_ang)
        write_map(into / f"{Path(name).stem}.mrc", aligned.map, decoder.pixel_size_ang)
        rows.append(AlignedFigures(float(aligned.correlation), bool(aligned.mirrored),
                                   compare(aligned.map, references[name], decoder.pixel_size_ang), name))
    write_records(into / "states.json", rows)
    return rows


def analysed_3d(options: ReproduceOptions, run_dir: Path, star: Path, maps: list[str]) -> TableRow:
    """Row of a 3D training; the states' maps and curves are written to ``states``."""
    scored = grouped(options, run_dir, star, run_dir.parent)
    traversed(options, run_dir, scored.clusters_dir)
    rows = state_figures(options, run_dir, scored, star, maps)
    point = add_point(run_dir, scored, star, mean_correlation(rows))
    extra: TableRow = {name: getattr(point, name) for name in ("scf", "noise_sigma")
                       if np.isfinite(getattr(point, name))}
    return {**scored.scores, "nmi_neighbours": point.nmi_neighbours,
            "resolution_ang": [row.compared.resolution_0143_ang for row in rows],
            "resolution_0.5_ang": [row.compared.resolution_05_ang for row in rows],
            "correlation": [row.correlation for row in rows], **extra, **training_columns(run_dir)}


def analysed_2d(options: ReproduceOptions, run_dir: Path, star: Path, maps: list[str]) -> TableRow:
    """Row of a 2D training: groups, FID, PSNR, centroids."""
    from ..latent.centroids import CentroidOptions, run_centroids
    from .fid import FidOptions, run_fid
    from .psnr import PsnrOptions, run_psnr

    scored = grouped(options, run_dir, star, run_dir.parent)
    point = add_point(run_dir, scored, star, float("nan"))
    run_centroids(CentroidOptions(str(scored.clusters_dir), str(run_dir), compute=options.compute),
                  run_dir.parent / "centroids")
    fid = run_fid(FidOptions(str(run_dir), labels=str(truth_of(star)), particles=str(star), **FID[options.scale],
                             network=str(run_dir.parent.parent / "feature_network.pt"), compute=options.compute),
                  run_dir.parent / "fid")
    psnr = run_psnr(PsnrOptions(str(run_dir), str(scored.embedding_dir), str(truth_of(star)), tuple(maps), n_images=50,
                                compute=options.compute), run_dir.parent / "psnr")
    return {**scored.scores, "nmi_neighbours": point.nmi_neighbours, "fid": fid.fid,
            "feature_network": fid.feature_network,
            "psnr_db": psnr.psnr_db,
            **training_columns(run_dir)}


def draw(out_dir: Path, names: list[str], star: Path, command: str) -> None:
    """Per configuration: the embedding by true state, and the states' maps with FSC (3D) or centroids (2D)."""
    if not names:
        return
    truth = read_truth(truth_of(star))
    n_states = len(truth.names)
    figure = drawing.new_figure(4 + (3.2 * n_states + 4 if command == "train3d" else 9), 3.4 * len(names))
    columns = n_states + 2 if command == "train3d" else 2
    axes = figure.subplots(len(names), columns, squeeze=False,
                           width_ratios=[4] + ([3.2] * n_states + [4] if command == "train3d" else [9]))
    for line, name in zip(axes, names, strict=True):
        clusters = read_clusters(out_dir / name / "clusters")
        state = truth.label[rows_of(truth.particle_id, clusters.particle_id, star)]
        draw_umap(line[0], clusters.umap, state, Naming(lambda label: Path(truth.names[label]).stem, state_colour))
        line[0].set_title(name)
        if command == "train3d":
            draw_states(line[1:], out_dir / name / "states")
        else:
            draw_centroids(line[1], out_dir / name / "centroids")
    drawing.save_png(figure, out_dir / experiment_tables.FIGURE_PNG)


def draw_states(axes: Any, folder: Path) -> None:
    """Central slices of each state's aligned map, and the FSC curves."""
    from ..data.mrc_files import read_map

    rows = result_files.read_json(folder / "states.json")
    for index, (ax, row) in enumerate(zip(axes, rows, strict=False)):
        array, voxel_size_ang = read_map(folder / f"{Path(row['state']).stem}.mrc")
        drawing.draw_density(ax, array, f"{Path(row['state']).stem}\n{row['resolution_0.143_ang']:.1f} Å",
                             state_colour(index))
        axes[-1].plot(frequencies_per_ang(len(array), voxel_size_ang), row["fsc"], color=state_colour(index))
    axes[-1].axhline(0.143, color="0.6", ls=":")
    axes[-1].set(xlabel="spatial frequency (1/Å)", ylabel="FSC with the truth", ylim=(-0.15, 1.05))


def draw_centroids(ax: Any, folder: Path) -> None:
    """Decoded centroids side by side, a row per cluster."""
    import mrcfile

    from ..latent.centroids import CENTROIDS_CSV

    rows = result_files.read_csv(folder / CENTROIDS_CSV)
    with mrcfile.open(folder / result_files.MAPS / result_files.IMAGES_MRCS, permissive=True) as stored:
        images = np.array(stored.data)
    labels = sorted({int(row["cluster"]) for row in rows})
    d, wide = images.shape[-1], max(sum(int(row["cluster"]) == label for row in rows) for label in labels)
    sheet = np.full((len(labels) * d, wide * d), images.min())
    for line, label in enumerate(labels):
        members = [int(row["index"]) for row in rows if int(row["cluster"]) == label]
        for column, index in enumerate(members):
            sheet[line * d:(line + 1) * d, column * d:(column + 1) * d] = images[index]
    drawing.draw_density(ax, sheet, "nearest particles to the k-means centroids, decoded, one row per cluster")
