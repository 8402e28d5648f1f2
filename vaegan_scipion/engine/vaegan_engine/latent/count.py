"""``count``: how many clusters the criteria without density would choose, as a table and a plot."""
from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import result_files
from ..contract.errors import ConfigError
from ..data.particle_tables import read_clusters, read_latents
from ..figures import drawing
from ..runtime.options import add_out
from . import density_clustering
from .cluster_number import CRITERIA, NumberScores, number_scores

COUNT_CSV, COUNT_JSON, COUNT_PNG = "count.csv", "count.json", "count.png"
TITLES = {"silhouette": "silhouette (largest)", "calinski_harabasz": "Calinski-Harabasz (largest)",
          "davies_bouldin": "Davies-Bouldin (smallest)", "gap": "gap (first within one error)",
          "bic": "BIC of mixtures (smallest)"}


@dataclass(frozen=True)
class CountOptions:
    """Points of which folder, and the range of numbers."""

    embedding_dir: str = ""  # z, or
    clusters_dir: str = ""  # the UMAP plane of a clustering
    k_min: int = 1
    k_max: int = 12
    max_particles: int = 5000  # drawn at random
    seed: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vaegan count``."""
    default = CountOptions()
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--embedding", dest="embedding_dir", default="", help="--out folder of embed: count in z")
    source.add_argument("--clusters", dest="clusters_dir", default="",
                        help="--out folder of cluster: count in its UMAP plane")
    add_out(parser)
    parser.add_argument("--k-min", type=int, default=default.k_min, help="smallest number (default %(default)s)")
    parser.add_argument("--k-max", type=int, default=default.k_max, help="largest number (default %(default)s)")
    parser.add_argument("--max-particles", type=int, default=default.max_particles,
                        help="particles drawn at random (default %(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed)


def main(args: argparse.Namespace) -> None:
    """Run ``vaegan count``."""
    run_count(CountOptions(args.embedding_dir, args.clusters_dir, args.k_min, args.k_max, args.max_particles,
                           args.seed), args.out)


def run_count(options: CountOptions, out_dir: Path) -> dict[str, Any]:
    """Write ``count.csv``, ``count.json`` and ``count.png``; returns what the JSON file holds.

    Raises ConfigError or DataError.
    """
    points = read_points(options)
    if not 1 <= options.k_min < options.k_max < len(points):
        raise ConfigError(f"k_min is {options.k_min} and k_max {options.k_max} for {len(points)} particles.",
                          "Use 1 <= k_min < k_max < number of particles.")
    scores = number_scores(points, options.k_min, options.k_max, options.seed)
    out_dir = Path(out_dir)
    result_files.write_csv(out_dir / COUNT_CSV, ["clusters", *CRITERIA, "gap_error"], (
        [int(k), *("" if np.isnan(scores.values[name][i]) else f"{scores.values[name][i]:.7g}" for name in CRITERIA),
         f"{scores.gap_error[i]:.7g}"] for i, k in enumerate(scores.k)))
    space = "z" if options.embedding_dir else "UMAP plane"
    found: dict[str, Any] = {"space": space, "n_particles": len(points), "k_min": options.k_min,
                             "k_max": options.k_max, "seed": options.seed, "chosen": scores.chosen()}
    result_files.write_json(out_dir / COUNT_JSON, found)
    draw(scores, space, out_dir / COUNT_PNG)
    for name, k in found["chosen"].items():
        print(f"{TITLES[name]}: {k}", flush=True)
    return found


def read_points(options: CountOptions) -> np.ndarray:
    """z or UMAP coordinates of at most ``max_particles`` particles. z gets the clustering's jitter."""
    if options.embedding_dir:
        points = density_clustering.jittered(read_latents(options.embedding_dir).z, options.seed)
    else:
        points = read_clusters(options.clusters_dir).umap
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
