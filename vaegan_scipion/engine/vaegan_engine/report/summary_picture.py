"""One picture of a whole analysis: UMAP, maps, FSC, traversal and the numbers."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from matplotlib.figure import Figure

from ..contract import result_files, run_json
from ..contract.analysis_records import read_traversal
from ..contract.drawings import Curve, draw_fsc, draw_umap, frequencies_per_ang
from ..contract.labels import UNASSIGNED, Naming, cluster_colour, cluster_name, state_colour
from ..contract.map_records import MapComparison
from ..contract.records import ClusterRow, Evaluation, HalfMaps, HalvesRow
from ..contract.result_files import read_picture
from ..contract.settings import ReportRun, TrainRun
from ..data.particle_tables import Clusters, read_cluster_rows, read_clusters, read_truth, rows_of
from ..evaluation.truth.reference_maps import Reference, read_references
from ..figures import drawing
from .result_reading import read_evaluation, read_halves

SHOWN_CLUSTERS = 8  # the largest; the numbers name all


@dataclass(frozen=True)
class Shown:
    """What the picture tells of."""

    clusters: Clusters
    rows: list[ClusterRow]
    evaluation: Evaluation
    halves: list[HalvesRow]  # those that were compared

    def half_maps(self) -> list[tuple[int, HalfMaps]]:
        """Each cluster with its half maps."""
        return [(row.cluster, row.compared) for row in self.halves if row.compared is not None]


def demo_report(report: ReportRun) -> Figure:
    """The picture of an analysis. Raises DataError when a folder named does not hold its results."""
    clusters, rows = read_clusters(report.clusters_dir), read_cluster_rows(report.clusters_dir)
    evaluation = read_evaluation(report.evaluation_dir) if report.evaluation_dir else Evaluation([])
    halves = [row for row in read_halves(report.halves_dir) if row.compared is not None]
    run = run_json.read_run(Path(report.run_dir) / result_files.RUN_JSON)
    figure = drawing.new_figure(17.0, 11.0)
    panels: Any = figure.subfigures(2, 1, height_ratios=(1.0, 1.25))
    top, bottom = panels
    shown = Shown(clusters, rows, evaluation, halves)
    draw_plots(top, report, shown, numbers(run, shown))
    if report.traverse_dir:
        left, right = bottom.subfigures(1, 2, width_ratios=(1.0, 1.5))
        draw_traversal(right, report)
    else:
        left = bottom
    draw_maps(left, report, shown, references_of(report, rows))
    return figure


def references_of(report: ReportRun, rows: list[ClusterRow]) -> list[Reference]:
    """Reference maps in the box of the clusters' maps."""
    if not (report.maps or report.truth_csv):
        return []
    made = [row.file for row in rows if row.file.endswith(".mrc")]
    if not made:
        return []
    with mrcfile.open(Path(report.clusters_dir) / made[0], permissive=True) as stored:
        box_px, voxel_size_ang = int(stored.header.nx), float(stored.voxel_size.x)
    return read_references(list(report.maps), report.truth_csv, box_px, voxel_size_ang)


def numbers(run: Any, shown: Shown) -> list[str]:
    """Lines of the text panel."""
    clusters, labels, ceiling = shown.clusters, shown.evaluation.labels, shown.evaluation.ceiling
    lines = [f"{len(clusters.label)} particles"]
    if isinstance(run, TrainRun):
        lines.append(f"{run.command}, preset {run.preset}, box {run.data.box_px} px, seed {run.compute.seed}, "
                     f"{run.training.total_kimg + run.training.encoder_kimg:g} kimg")
    lines += ["", f"clusters {int(clusters.label.max()) + 1}"]
    lines += [f"  {cluster_name(row.label)}: {row.n_particles} ({100 * row.fraction:.1f} %)" for row in shown.rows]
    if labels is not None:
        lines += [f"NMI {labels.nmi:.3f}", f"AMI {labels.ami:.3f}", f"ARI {labels.ari:.3f}"]
    if ceiling is not None:
        lines.append(f"supervised ceiling NMI {ceiling.nmi:.3f}")
    lines += [""] * bool(shown.evaluation.maps) + [
        f"{cluster_name(row.label)} vs {row.reference}:\n"
        f"  {row.compared.resolution_05_ang:.1f} Å (FSC 0.5), {row.compared.resolution_0143_ang:.1f} Å (0.143), "
        f"cc {row.correlation:.2f}" for row in shown.evaluation.maps]
    lines += [f"{cluster_name(label)}, halves: {made.halves.resolution_0143_ang:.1f} Å (0.143)"
              for label, made in shown.half_maps()]
    return lines


def draw_plots(panel: Any, report: ReportRun, shown: Shown, lines: list[str]) -> None:
    """UMAP by cluster, UMAP by truth, FSC, numbers."""
    clusters, curves = shown.clusters, fsc_curves(shown)
    n_plots = 2 + bool(report.truth_csv) + bool(curves)
    axes = list(np.ravel(panel.subplots(1, n_plots)))
    ax = axes.pop(0)
    draw_umap(ax, clusters.umap, clusters.label)
    ax.set_title("UMAP of z, by cluster")
    if report.truth_csv:
        truth = read_truth(report.truth_csv)
        state = truth.label[rows_of(truth.particle_id, clusters.particle_id, report.truth_csv)]
        ax = axes.pop(0)
        draw_umap(ax, clusters.umap, state, Naming(lambda index: Path(truth.names[index]).stem, state_colour))
        ax.set_title("the same, by true state")
    if curves:
        draw_fsc(axes.pop(0), curves, "FSC")
    drawing.text_panel(axes.pop(0), lines)


def fsc_curves(shown: Shown) -> list[Curve]:
    """Curves against the references, then (dashed) between the halves."""
    def curve(label: int, text: str, compared: MapComparison, voxel_size_ang: float, style: str) -> Curve:
        frequency = frequencies_per_ang(compared.map_box_px, voxel_size_ang)
        return Curve(label, frequency, compared.fsc, text, style)

    return [*(curve(row.label, f"{cluster_name(row.label)} vs {Path(row.reference).stem}", row.compared,
                    row.voxel_size_ang, "-") for row in shown.evaluation.maps),
            *(curve(label, f"{cluster_name(label)}, two halves", made.halves, made.voxel_size_ang, "--")
              for label, made in shown.half_maps())]


def draw_maps(panel: Any, report: ReportRun, shown: Shown, references: list[Reference]) -> None:
    """One row per cluster: its map; where it was compared with a reference, aligned to it and beside it."""
    rows = shown.rows[:SHOWN_CLUSTERS]
    compared = {row.label: row for row in shown.evaluation.maps}
    by_name = {reference.name: reference for reference in references}
    axes = panel.subplots(len(rows), 1 + bool(references), squeeze=False)
    panel.suptitle("map of each cluster" + (", its reference" if references else "")
                   + ": central slices along z, y, x", fontsize=10)
    folder = Path(report.evaluation_dir)
    folder = folder if folder.is_dir() else folder.parent
    for (ax, *others), row in zip(axes, rows, strict=True):
        against = compared.get(row.label)
        array = (read_picture(Path(report.clusters_dir) / row.file, row.index) if against is None
                 else read_picture(folder / against.aligned_file))
        drawing.draw_density(ax, array, f"{cluster_name(row.label)}, {row.n_particles} particles",
                             cluster_colour(row.label))
        for other in others:
            reference = by_name.get(against.reference) if against else None
            if reference is None:
                other.axis("off")
            else:
                drawing.draw_density(other, reference.map, Path(reference.name).stem)


def draw_traversal(panel: Any, report: ReportRun) -> None:
    """First component of each cluster, with the number of particles near each point."""
    points = [point for point in read_traversal(report.traverse_dir) if point.component == 0]
    labels = sorted({point.cluster for point in points} - {UNASSIGNED})[:SHOWN_CLUSTERS]
    columns = max((sum(point.cluster == label for point in points) for label in labels), default=1)
    panel.suptitle("PC 1 inside each cluster: z slice, particles near the point", fontsize=10)
    axes = panel.subplots(max(len(labels), 1), columns, squeeze=False)
    for ax in axes.ravel():
        ax.axis("off")
    for ax_row, label in zip(axes, labels, strict=False):
        line = sorted((point for point in points if point.cluster == label), key=lambda point: point.point)
        for ax, point in zip(ax_row, line, strict=False):
            array = read_picture(Path(report.traverse_dir) / point.file, point.index)
            drawing.draw_density(ax, array[len(array) // 2] if array.ndim == 3 else array,
                                 f"{point.position:.2f}: {point.n_near}", cluster_colour(label))
