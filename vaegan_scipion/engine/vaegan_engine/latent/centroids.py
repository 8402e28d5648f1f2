"""``centroids``: k-means inside each cluster, the particle nearest to each centroid, decoded (thesis, 12)."""
from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..contract import result_files
from ..contract.labels import UNASSIGNED, cluster_name
from ..contract.setting import check_settings, section, setting
from ..contract.settings import ComputeConfig
from ..data.particle_tables import latents_of_clusters
from ..figures import drawing
from ..training.decoded import Decoded, check_latents, load_trained, write_decoded

CENTROIDS_CSV, CENTROIDS_PNG = "centroids.csv", "centroids.png"
_COLUMNS = 4  # pictures per row


@dataclass(frozen=True)
class CentroidOptions:
    """Which clustering, which model, how many centroids."""

    clusters_dir: str = setting("", "Results folder of cluster", path=True, required=True)
    run_dir: str = setting("", "Results folder of the training", path=True, required=True)
    per_cluster: int = setting(16, "k-means centroids per cluster; the thesis has 16", low=1, high=1000)
    compute: ComputeConfig = section(ComputeConfig)


class Centroid(NamedTuple):
    """One k-means centroid: the row of the nearest particle and how many particles it stands for."""

    row: int
    n_particles: int
    distance: float  # from the centroid to that particle


@dataclass(frozen=True)
class CentroidRow:
    """A row of ``centroids.csv``: a centroid's nearest particle, decoded."""

    cluster: int
    centroid: int
    n_particles: int
    particle_id: int
    umap_1: float
    umap_2: float
    distance_umap: float
    file: str = ""
    index: int = 0  # of the image in its stack


def nearest_to_centroids(points: np.ndarray, n_centroids: int, seed: int) -> tuple[list[Centroid], np.ndarray]:
    """k-means of points ``(n, k)``: per centroid the nearest point, and the labels ``(n,)``.

    At most as many centroids as there are different points. Centroids are ordered by falling size.
    """
    from sklearn.cluster import KMeans

    n_centroids = min(n_centroids, len(np.unique(points, axis=0)))
    model = KMeans(n_clusters=n_centroids, n_init=10, random_state=seed).fit(points)
    order = np.argsort(-np.bincount(model.labels_, minlength=n_centroids), kind="stable")
    place = np.empty(n_centroids, np.int64)
    place[order] = np.arange(n_centroids)
    labels = place[model.labels_]
    centroids = []
    for index, centre in enumerate(model.cluster_centers_[order]):
        distance = np.linalg.norm(points - centre, axis=1)
        row = int(distance.argmin())
        centroids.append(Centroid(row, int((labels == index).sum()), float(distance[row])))
    return centroids, labels


def run_centroids(options: CentroidOptions, out_dir: Path) -> list[CentroidRow]:
    """Write ``centroids.csv``, the maps or images and ``centroids.png``; returns the rows.

    Raises ConfigError or DataError. The unassigned are no cluster and have no centroids.
    """
    check_settings(options)
    out_dir = Path(out_dir)
    clusters, latents = latents_of_clusters(options.clusters_dir)
    decoder = load_trained(options.run_dir, options.compute)
    check_latents(decoder, latents.z, options.clusters_dir, options.run_dir)
    rows: list[CentroidRow] = []
    chosen: list[int] = []
    for label in (label for label in clusters.labels if label != UNASSIGNED):
        members = np.flatnonzero(clusters.label == label)
        centroids, _ = nearest_to_centroids(clusters.umap[members], options.per_cluster, options.compute.seed)
        for index, centroid in enumerate(centroids):
            row = int(members[centroid.row])
            chosen.append(row)
            rows.append(CentroidRow(label, index, centroid.n_particles, int(clusters.particle_id[row]),
                                    float(clusters.umap[row, 0]), float(clusters.umap[row, 1]), centroid.distance))
    result_files.forget(out_dir, CENTROIDS_CSV, CENTROIDS_PNG, f"{result_files.MAPS}/cluster_*_centroid_*.mrc")
    names = [f"cluster_{row.cluster:02d}_centroid_{row.centroid:02d}" for row in rows]
    made = write_decoded(decoder, latents.z[chosen], names, out_dir)
    rows = [replace(row, file=one.file, index=one.index) for row, one in zip(rows, made, strict=True)]
    result_files.write_csv(out_dir / CENTROIDS_CSV, [item.name for item in fields(CentroidRow)], map(astuple, rows))
    draw(rows, made, out_dir / CENTROIDS_PNG)
    print(f"{len(rows)} centroids of {len({row.cluster for row in rows})} clusters", flush=True)
    return rows


def draw(rows: list[CentroidRow], made: list[Decoded], path: Path) -> None:
    """Pictures of the decoded particles, cluster after cluster."""
    lines: list[list[tuple[np.ndarray, str]]] = []
    labels: list[int] = []
    for label in sorted({row.cluster for row in rows}):
        of_cluster = [(one.picture, f"{cluster_name(label)}: {row.n_particles}")
                      for row, one in zip(rows, made, strict=True) if row.cluster == label]
        for start in range(0, len(of_cluster), _COLUMNS):
            lines.append(of_cluster[start:start + _COLUMNS])
            labels.append(label)
    drawing.save_png(drawing.density_strip(lines, labels), path)
