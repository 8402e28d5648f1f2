"""``traverse``: principal components of z inside each cluster, and maps or images along them."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import result_files, run_json
from ..contract.errors import ConfigError
from ..contract.labels import UNASSIGNED, cluster_name
from ..contract.setting import check_settings
from ..contract.settings import TraverseRun
from ..contract.status import update_status
from ..data.particle_tables import latents_of_clusters
from ..figures import drawing
from ..training.decoded import Decoded, check_latents, load_trained, write_decoded

TRAVERSAL_PNG = "traversal.png"


@dataclass(frozen=True)
class Point:
    """One point of a traversal."""

    component: int
    point: int
    position: float  # score along the component, same units as z
    n_near: int
    distance_z: float
    z: np.ndarray  # (k,)


def to_simplex(z: np.ndarray, n_categories: int) -> np.ndarray:
    """z ``(n, k)`` with its first ``n_categories`` entries clipped at 0 and scaled to sum 1.

    A point on a straight line through probabilities can leave their simplex; a row without any
    positive entry becomes uniform.
    """
    z = np.array(z, np.float64)
    if n_categories:
        share = np.clip(z[:, :n_categories], 0.0, None)
        total = share.sum(axis=1, keepdims=True)
        z[:, :n_categories] = np.where(total > 0, share / np.where(total > 0, total, 1.0), 1.0 / n_categories)
    return z


def traverse_points(z: np.ndarray, n_components: int, n_points: int, percentiles: tuple[float, float],
                    n_categories: int) -> list[Point]:
    """Points along the principal components of one cluster, z ``(n, k)`` of its particles.

    Scores run linearly from the low to the high percentile of the particles' own scores. Of the
    particles, ``n_near`` have a score within half a step of the point, and ``distance_z`` is the
    distance in z from the point to the nearest one: a point far from every particle is made up.
    A cluster of n particles has at most n - 1 components; one particle has none.
    """
    from sklearn.decomposition import PCA

    z = np.asarray(z, np.float64)
    n_components = min(n_components, len(z) - 1, z.shape[1])
    if n_components < 1:
        return []
    with np.errstate(invalid="ignore", divide="ignore"):  # the variance ratio of equal rows is 0 / 0
        pca = PCA(n_components=n_components, svd_solver="full").fit(z)
    scores = (z - pca.mean_) @ pca.components_.T
    made = []
    for component in range(n_components):
        score = scores[:, component]
        low, high = np.percentile(score, percentiles)
        positions = np.linspace(low, high, n_points) if n_points > 1 else np.array([(low + high) / 2])
        half_step = (high - low) / (2 * max(n_points - 1, 1))
        on_line = to_simplex(pca.mean_ + positions[:, None] * pca.components_[component], n_categories)
        for index, (position, place) in enumerate(zip(positions, on_line, strict=True)):
            near = np.abs(score - position) <= half_step * (1 + 1e-9) + 1e-12
            distance = float(np.sqrt(((z - place) ** 2).sum(axis=1).min()))
            made.append(Point(component, index, float(position), int(near.sum()), distance, place))
    return made


def run_traverse(run: TraverseRun, out_dir: Path) -> None:
    """Traverse every cluster into ``out_dir``. Returns the status. Raises ConfigError or DataError."""
    out_dir = Path(out_dir)
    check(run)
    clusters, latents = latents_of_clusters(run.clusters_dir)
    decoder = load_trained(run.run_dir, run.compute)
    check_latents(decoder, latents.z, run.clusters_dir, run.run_dir)
    result_files.forget(out_dir, result_files.TRAVERSAL_CSV, TRAVERSAL_PNG, f"{result_files.MAPS}/cluster_*_pc*.mrc")
    run_json.write_run(run, out_dir / result_files.RUN_JSON)
    n_categories = decoder.run.model.n_categories
    points: list[tuple[int, Point]] = []
    for label in clusters.labels:
        members = latents.z[clusters.label == label]
        if label == UNASSIGNED:
            print(f"{cluster_name(label)}: {len(members)} particles are no cluster and are not traversed", flush=True)
            continue
        along = traverse_points(members, run.n_components, run.n_points, (run.low_percentile, run.high_percentile),
                                n_categories)
        if not along:
            print(f"{cluster_name(label)}: {len(members)} particle has no principal component", flush=True)
        points += [(label, point) for point in along]
    write(points, decoder, out_dir, latents.z.shape[1])
    update_status(out_dir, state="finished", command=run.command, error=None,
                                 n_points=len(points))


def check(run: TraverseRun) -> None:
    """Refuse settings that cannot be run."""
    check_settings(run)
    if not run.low_percentile < run.high_percentile:
        raise ConfigError(f"low_percentile is {run.low_percentile:g} and high_percentile {run.high_percentile:g}.",
                          "Use a low one below the high one.")


def write(points: list[tuple[int, Point]], decoder: Any, out_dir: Path, z_dim: int) -> None:
    """Decode the points and write maps or images, ``traversal.csv`` and ``traversal.png``."""
    header = ["cluster", "component", "point", "position", "n_near", "distance_z", "file", "index",
              *(f"z_{i + 1}" for i in range(z_dim))]
    made: list[Decoded] = []
    if points:
        names = [f"cluster_{label:02d}_pc{p.component + 1}_{p.point:02d}" for label, p in points]
        made = write_decoded(decoder, np.stack([p.z for _, p in points]).astype(np.float32), names, out_dir)
    result_files.write_csv(out_dir / result_files.TRAVERSAL_CSV, header, (
        [label, p.component, p.point, f"{p.position:.7g}", p.n_near, f"{p.distance_z:.7g}", one.file, one.index,
         *(f"{x:.7g}" for x in p.z)] for (label, p), one in zip(points, made, strict=True)))
    if points:
        keys = sorted({(label, p.component) for label, p in points})
        rows = [[(one.picture, f"{cluster_name(label)} PC {p.component + 1}: {p.position:.2f}, {p.n_near} near")
                 for (label, p), one in zip(points, made, strict=True) if (label, p.component) == key]
                for key in keys]
        drawing.save_png(drawing.density_strip(rows, [label for label, _ in keys]), out_dir / TRAVERSAL_PNG)
    for label, p in points:
        print(f"{cluster_name(label)} component {p.component + 1} point {p.point + 1}: {p.n_near} particles near, "
              f"nearest at {p.distance_z:.3f} in z", flush=True)
