"""``cluster``: UMAP and groups of an embedding, and one map (3D) or image (2D) per group."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from . import clustering, contract, figures, results
from .arguments import add_compute, add_fields, add_folder, add_out, run_of
from .clustering import NOISE, Grouping
from .contract import ClusterRun
from .decoded import LoadDecoder, check_z, load_trained, write_decoded
from .errors import ConfigError, DataError
from .palette import cluster_name
from .particle_tables import Clusters, Latents, read_latents

HELPS = {
    "method": "hdbscan finds the number of clusters in the UMAP plane; kmeans and gmm are given it and work in z",
    "n_clusters": "kmeans and gmm only",
    "n_neighbors": "UMAP: neighbours per particle",
    "min_dist": "UMAP: smallest distance in the plane",
    "min_samples": "HDBSCAN: neighbours that make a place dense",
    "min_cluster_size": "HDBSCAN: particles; 0 = min_cluster_frac of all, within 15 and 900",
    "min_cluster_frac": "HDBSCAN: smallest cluster / all particles",
    "join_valley": "HDBSCAN: join groups unless the density in z between them falls below this part of the "
                   "lower peak; 0 = join none",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vaegan cluster``."""
    add_folder(parser, "--embedding", "embedding_dir", "--out folder of embed")
    add_folder(parser, "--run", "run_dir", "--out folder of the training")
    add_out(parser)
    add_fields(parser, ClusterRun, HELPS)
    add_compute(parser)


def main(args: argparse.Namespace) -> None:
    """Run ``vaegan cluster``."""
    run_cluster(run_of(ClusterRun, args), args.out)


def run_cluster(run: ClusterRun, out_dir: Path, load: LoadDecoder = load_trained) -> dict[str, Any]:
    """Cluster an embedding into ``out_dir``. Returns what ``clustering.json`` holds.

    Raises ConfigError or DataError.
    """
    out_dir = Path(out_dir)
    latents = read_latents(run.embedding_dir)
    check(run, len(latents.z))
    decoder = load(run.run_dir, run.compute)
    check_z(decoder, latents.z, run.embedding_dir)
    contract.write_run(run, out_dir / results.RUN_JSON)

    z = clustering.jittered(latents.z, run.compute.seed)
    print(f"UMAP of {len(z)} particles, z of {latents.z.shape[1]} numbers", flush=True)
    points = clustering.embed_2d(z, run.n_neighbors, run.min_dist, run.compute.seed)
    group = grouped(run, z, points)
    clusters = Clusters(latents.particle_id, group.labels, group.probability, points)
    details = describe(run, z, clusters, group)

    rows, arrays = picture_rows(latents, clusters, decoder, out_dir)
    results.write_csv(out_dir / results.CLUSTERS_CSV, ["particle_id", "label", "probability", "umap_1", "umap_2"],
                      ([int(i), int(label), f"{p:.6g}", f"{x:.7g}", f"{y:.7g}"] for i, label, p, (x, y) in zip(
                          clusters.particle_id, clusters.label, clusters.probability, points, strict=True)))
    results.write_json(out_dir / results.CLUSTERS_JSON, rows)
    results.write_json(out_dir / results.CLUSTERING_JSON, details)
    draw(clusters, rows, arrays, out_dir)
    results.update_status(out_dir, state="finished", command=run.command, error=None,
                          n_particles=len(z), clusters=details["clusters"], noise_frac=details["noise_frac"])
    report(details, rows)
    return details


def check(run: ClusterRun, n: int) -> None:
    """Refuse settings that cannot be run on n particles."""
    limits = [("n_neighbors", run.n_neighbors, 2, 1000), ("min_dist", run.min_dist, 0, 1),
              ("min_samples", run.min_samples, 1, 1000), ("min_cluster_size", run.min_cluster_size, 0, 10**9),
              ("min_cluster_frac", run.min_cluster_frac, 1e-6, 1), ("join_valley", run.join_valley, 0, 1)]
    if run.method != "hdbscan":
        limits.append(("n_clusters", run.n_clusters, 1, 10**6))
        if run.n_clusters > n:
            raise DataError(f"n_clusters is {run.n_clusters}, the embedding has {n} particles.",
                            f"Use at most {n} clusters, or embed more particles.")
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise ConfigError(f"{name} is {value:g}.", f"Use a value from {low:g} to {high:g}.")


def grouped(run: ClusterRun, z: np.ndarray, points: np.ndarray) -> Grouping:
    """Labels by the method that was asked for."""
    if run.method == "kmeans":
        return clustering.group_by_kmeans(z, run.n_clusters, run.compute.seed)
    if run.method == "gmm":
        return clustering.group_by_mixture(z, run.n_clusters, run.compute.seed)
    size = clustering.smallest_cluster(len(points), run.min_cluster_size, run.min_cluster_frac)
    if len(points) < 2 * size:
        print(f"{len(points)} particles cannot hold two clusters of min_cluster_size {size}: all are one. "
              "Embed more particles, or lower --min-cluster-size.", flush=True)
    return clustering.group_by_density(z, points, size, run.min_samples, run.join_valley)


def describe(run: ClusterRun, z: np.ndarray, clusters: Clusters, group: Grouping) -> dict[str, Any]:
    """What ``clustering.json`` holds: how the clusters came about and how stable their number is."""
    details: dict[str, Any] = {
        "method": run.method, "n_particles": len(z), "clusters": int(clusters.label.max()) + 1,
        "noise_frac": float((clusters.label == NOISE).mean()), "jitter_frac": clustering.JITTER_FRAC,
        **group.details}
    if run.method == "hdbscan":
        details["sweep"] = clustering.sweep(z, clusters.umap, run.min_samples, run.join_valley, clusters.label)
    return details


def picture_rows(latents: Latents, clusters: Clusters, decoder: Any, out_dir: Path
                 ) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Decode the mean z of every group, noise too, and write it. Returns rows of ``clusters.json``."""
    labels = clusters.labels
    means = np.stack([latents.z[clusters.label == label].mean(axis=0) for label in labels])
    names = ["cluster_noise" if label == NOISE else f"cluster_{label:02d}" for label in labels]
    arrays, files = write_decoded(decoder, means, names, out_dir)
    counts = [int((clusters.label == label).sum()) for label in labels]
    rows = [{"label": label, "n_particles": count, "fraction": count / len(latents.z),
             "z": [float(x) for x in mean], "file": file, "index": index}
            for label, count, mean, (file, index) in zip(labels, counts, means, files, strict=True)]
    return rows, arrays


def draw(clusters: Clusters, rows: list[dict[str, Any]], arrays: np.ndarray, out_dir: Path) -> None:
    """Write ``umap.png`` and ``maps.png``."""
    figure = figures.new_figure(6.5, 5.5)
    n_clusters = int(clusters.label.max()) + 1
    figures.draw_umap(figure.subplots(), clusters.umap, clusters.label,
                      title=f"{n_clusters} cluster{'s' * (n_clusters != 1)} of {len(clusters.label)} particles")
    figures.save_png(figure, out_dir / "umap.png")
    strip = figures.density_strip(
        [[(array, f"{cluster_name(row['label'])}, {row['n_particles']} particles")]
         for row, array in zip(rows, arrays, strict=True)], [row["label"] for row in rows])
    figures.save_png(strip, out_dir / "maps.png")


def report(details: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Print the result."""
    for row in rows:
        print(f"{cluster_name(row['label'])}: {row['n_particles']} particles ({100 * row['fraction']:.1f} %)")
    if "sweep" in details:
        print("clusters against min_cluster_size: "
              + ", ".join(f"{r['min_cluster_size']}: {r['clusters']}" for r in details["sweep"]))
    print(f"clusters {details['clusters']}")
    print(f"noise fraction {details['noise_frac']:.3f}", flush=True)
