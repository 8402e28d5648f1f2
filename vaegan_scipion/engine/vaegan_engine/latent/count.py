"""``count``: how many clusters the criteria without density would choose, as a table and a plot."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract import result_files
from ..contract.errors import ConfigError, DataError
from ..contract.record import write_record
from ..contract.setting import check_settings, setting
from ..data.particle_tables import read_clusters, read_latents
from ..figures import drawing
from . import density_clustering
from .cluster_number import CRITERIA, NumberScores, number_scores

COUNT_CSV, COUNT_JSON, COUNT_PNG = "count.csv", "count.json", "count.png"
TITLES = {"silhouette": "silhouette (largest)", "calinski_harabasz": "Calinski-Harabasz (largest)",
          "davies_bouldin": "Davies-Bouldin (smallest)", "gap": "gap (first within one error)",
          "bic": "BIC of mixtures (smallest)"}


@dataclass(frozen=True)
class CountOptions:
    """Points of which folder, and the range of numbers."""

    embedding_dir: str = setting("", "Results folder of embed: count in z", path=True, group="source", required=True)
    clusters_dir: str = setting("", "Results folder of cluster: count in its UMAP plane", path=True, group="source",
                                required=True)
    k_min: int = setting(1, "Smallest number", low=1)
    k_max: int = setting(12, "Largest number", low=2)
    max_particles: int = setting(5000, "Particles drawn at random", low=1)
    seed: int = setting(0, "Start of all random numbers", low=0)


@dataclass(frozen=True)
class NumberCount:
    """``count.json``: the number of clusters that each criterion would choose."""

    space: str  # of the points
    n_particles: int
    k_min: int
    k_max: int
    seed: int
    chosen: dict[str, int]  # by criterion


def run_count(options: CountOptions, out_dir: Path) -> NumberCount:
    """Write ``count.csv``, ``count.json`` and ``count.png``; returns what the JSON file holds.

    Raises ConfigError or DataError.
    """
    check_settings(options)
    points = read_points(options)
    if not options.k_min < options.k_max < len(points):
        raise ConfigError(f"k_min is {options.k_min} and k_max {options.k_max} for {len(points)} particles.",
                          "Use k_min < k_max < number of particles.")
    scores = number_scores(points, options.k_min, options.k_max, options.seed)
    out_dir = Path(out_dir)
    result_files.write_csv(out_dir / COUNT_CSV, ["clusters", *CRITERIA, "gap_error"], (
        [int(k), *("" if np.isnan(scores.values[name][i]) else f"{scores.values[name][i]:.7g}" for name in CRITERIA),
         f"{scores.gap_error[i]:.7g}"] for i, k in enumerate(scores.k)))
    space = "z" if options.embedding_dir else "UMAP plane"
    count = NumberCount(space, len(points), options.k_min, options.k_max, options.seed, scores.chosen())
    write_record(out_dir / COUNT_JSON, count)
    draw(scores, space, out_dir / COUNT_PNG)
    for name, k in count.chosen.items():
        print(f"{TITLES[name]}: {k}", flush=True)
    return count


def read_points(options: CountOptions) -> np.ndarray:
    """z or UMAP coordinates of at most ``max_particles`` particles. z gets the clustering's jitter."""
    if options.embedding_dir:
        points = density_clustering.jittered(read_latents(options.embedding_dir).z, options.seed)
    else:
        points = read_clusters(options.clusters_dir).umap
        if points.shape[1] < 2:
            raise DataError(f"{options.clusters_dir}: its {result_files.CLUSTERS_CSV} has no UMAP.",
                            "Give the results folder of cluster.")
    rows = np.random.default_rng(options.seed).permutation(len(points))[:options.max_particles]
    return np.asarray(points, np.float64)[np.sort(rows)]


def draw(scores: NumberScores, space: str, path: Path) -> None:
    """One panel per criterion, the chosen number marked."""
    figure = drawing.new_figure(12, 2.8)
    chosen = scores.chosen()
    for ax, name in zip(figure.subplots(1, len(CRITERIA)), CRITERIA, strict=True):
        values = scores.values[name]
        ax.errorbar(scores.k, values, scores.gap_error if name == "gap" else None, marker="o", ms=3, lw=1.2,
                    color="#1f77b4")
        ax.axvline(chosen[name], color="#d62728", lw=1, ls="--")
        ax.set_title(f"{TITLES[name]}: {chosen[name]}", fontsize=8)
        ax.set_xlabel(f"clusters in {space}", fontsize=8)
        ax.tick_params(labelsize=7)
    drawing.save_png(figure, path)
