"""``cluster``: UMAP and groups of an embedding, and one map (3D) or image (2D) per group."""
from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import result_files, run_json
from ..contract.analysis_records import STABLE
from ..contract.drawings import draw_umap
from ..contract.errors import DataError
from ..contract.labels import UNASSIGNED, cluster_name
from ..contract.record import write_record, write_records
from ..contract.records import Clustering, NullDraw, Stability, Try
from ..contract.records import ClusterRow as Row
from ..contract.setting import check_settings
from ..contract.settings import ClusterRun
from ..contract.status import read_status, update_status
from ..data.particle_tables import Clusters, Latents, read_latents
from ..data.run_images import row_ids_of
from ..figures import drawing
from ..runtime.progress import progress_bar
from ..training.decoded import check_latents, load_trained, write_decoded
from . import density_clustering, large_sets, stability
from .density_clustering import Grouping

TRIES = 3  # of UMAP and HDBSCAN with other random numbers


def run_cluster(run: ClusterRun, out_dir: Path) -> Clustering:
    """Cluster an embedding into ``out_dir``. Returns what ``clustering.json`` holds.

    Raises ConfigError or DataError.
    """
    out_dir = Path(out_dir)
    latents = read_latents(run.embedding_dir)
    check(run, len(latents.z))
    decoder = load_trained(run.run_dir, run.compute)
    check_latents(decoder, latents.z, run.embedding_dir, run.run_dir)
    result_files.forget(out_dir, result_files.CLUSTERS_CSV, result_files.CLUSTERS_JSON, result_files.CLUSTERING_JSON,
                        result_files.EVALUATION_JSON, *result_files.MAPS_OF_GROUPS)
    run_json.write_run(run, out_dir / result_files.RUN_JSON)
    update_status(out_dir, state="running", command=run.command, error=None)

    z, laid_out, tries = most_typical(run, latents.z)
    points, group = large_sets.with_others(z, laid_out.rows, laid_out.points, laid_out.group)
    clusters = Clusters(latents.particle_id, group.labels, group.probability, points)
    details = replace(describe(run, z, clusters, laid_out), tries=tries, hdbscan_groups=group.hdbscan_groups)
    rows, shown = picture_rows(latents, clusters, decoder, out_dir)
    if run.stability_repeats:
        details = assess(run, LatentsAsClustered(latents.z, z, decoder.run.model.n_categories), group, details)
        if details.stability is not None:
            rows = [row if row.label == UNASSIGNED
                    else replace(row, stability=details.stability.per_cluster[row.label]) for row in rows]
    result_files.write_csv(
        out_dir / result_files.CLUSTERS_CSV,
        ["particle_id", "label", "probability", "umap_1", "umap_2"],
        (
            [int(i), int(label), f"{p:.6g}", f"{x:.7g}", f"{y:.7g}"]
            for i, label, p, (x, y) in zip(
                clusters.particle_id, clusters.label, clusters.probability, points, strict=True
            )
        ),
    )
    write_records(out_dir / result_files.CLUSTERS_JSON, rows)
    write_record(out_dir / result_files.CLUSTERING_JSON, details)
    draw(clusters, rows, shown, out_dir)
    update_status(out_dir, state="finished", command=run.command, error=None,
                  n_particles=len(z), clusters=details.clusters, unassigned_frac=details.unassigned_frac,
                  verdict=details.verdict or "", ids_are_rows_of=row_ids_of(run.embedding_dir),
                  networks=read_status(run.embedding_dir).networks)
    report(details, rows)
    return details


@dataclass(frozen=True)
class LaidOut:
    """Particles that were laid out by UMAP, and their groups; of few particles all (``large_sets``)."""

    rows: np.ndarray  # (m,) of all n
    points: np.ndarray  # (m, 2)
    group: Grouping  # of these; of all particles where the method needs no UMAP


def most_typical(run: ClusterRun, raw: np.ndarray, most: int = large_sets.MOST_LAID_OUT
                 ) -> tuple[np.ndarray, LaidOut, list[Try]]:
    """z with jitter of latents ``raw`` (n, k), what UMAP and the method make of them, and a row for every try.

    Random numbers decide where UMAP leaves a bridge, and now and then one more or one less joins everything. So
    HDBSCAN's groups are those of the try whose labels agree best with the others' (mean AMI), a median of partitions.
    Of more than ``most`` particles a part is laid out.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    made, rows = [], large_sets.laid_out_rows(len(raw), run.compute.seed, most)
    for seed in range(run.compute.seed, run.compute.seed + (TRIES if run.method == "hdbscan" else 1)):
        part = f"{len(rows)} of " if len(rows) < len(raw) else ""
        print(f"UMAP of {part}{len(raw)} particles, z of {raw.shape[1]} numbers, seed {seed}", flush=True)
        z = density_clustering.jittered(raw, seed)
        points = density_clustering.embed_2d(z[rows], run.n_neighbors, run.min_dist, seed)
        group = grouped(run, z[rows] if run.method == "hdbscan" else z, points, len(raw))
        made.append((z, LaidOut(rows, points, group)))
    labels = [laid_out.group.labels for _, laid_out in made]
    agreed = [float(np.mean([adjusted_mutual_info_score(one, other) for k, other in enumerate(labels) if k != place]
                            or [1.0])) for place, one in enumerate(labels)]
    best = int(np.argmax(agreed))
    return *made[best], [Try(int(one.max()) + 1, ami, place == best)
                         for place, (one, ami) in enumerate(zip(labels, agreed, strict=True))]


def check(run: ClusterRun, n: int) -> None:
    """Refuse settings that cannot be run on n particles."""
    check_settings(run)
    if run.method != "hdbscan" and run.n_clusters > n:
        raise DataError(f"n_clusters is {run.n_clusters}, the embedding has {n} particles.",
                        f"Use at most {n} clusters, or embed more particles.")


def smallest_of(run: ClusterRun, n: int) -> int:
    """HDBSCAN's min_cluster_size among n particles: as asked; else the share that it is of those that are laid out."""
    laid_out = min(n, large_sets.MOST_LAID_OUT)
    size = density_clustering.smallest_cluster(laid_out, run.min_cluster_size, run.min_cluster_frac)
    return size if run.min_cluster_size > 0 else round(size * n / laid_out)


def grouped(run: ClusterRun, z: np.ndarray, points: np.ndarray, n_all: int) -> Grouping:
    """Labels by the method that was asked for; ``n_all`` particles are to be grouped, of which these may be a part."""
    if run.method == "kmeans":
        return density_clustering.group_by_kmeans(z, run.n_clusters, run.compute.seed)
    if run.method == "gmm":
        return density_clustering.group_by_mixture(z, run.n_clusters, run.compute.seed)
    size = smallest_of(run, n_all)
    if n_all < 2 * size:
        print(f"{n_all} particles cannot hold two clusters of min_cluster_size {size}: all are one. "
              "Embed more particles, or lower --min-cluster-size.", flush=True)
    own = density_clustering.part_size(size, n_all, len(points))
    group = density_clustering.group_by_density(z, points, own, run.min_samples, run.join_valley)
    return replace(group, min_cluster_size=size)


def describe(run: ClusterRun, z: np.ndarray, clusters: Clusters, laid_out: LaidOut) -> Clustering:
    """What ``clustering.json`` holds: how the clusters came about and how stable their number is."""
    rows, n = laid_out.rows, len(z)
    def grouped_from(size: int) -> Grouping:
        return density_clustering.group_by_density(z[rows], laid_out.points, size, run.min_samples, run.join_valley)

    sweep = density_clustering.sweep(grouped_from, clusters.label[rows], n) if run.method == "hdbscan" else None
    return Clustering(run.method, n, int(clusters.label.max()) + 1, float((clusters.label == UNASSIGNED).mean()),
                      density_clustering.JITTER_FRAC, [], laid_out.group.min_cluster_size, sweep=sweep,
                      laid_out=len(rows) if len(rows) < n else None)


@dataclass(frozen=True)
class LatentsAsClustered:
    """Latents ``(n, k)`` without and with jitter; the first ``n_categories`` columns are probabilities."""

    raw: np.ndarray
    z: np.ndarray
    n_categories: int


def assess(run: ClusterRun, latents: LatentsAsClustered, group: Grouping, details: Clustering) -> Clustering:
    """``details`` with the stability of the clusters, what a null without groups gives, and a verdict.

    Sweep rows get ``null_clusters``, the numbers of the first
    draws, as many as there are repeats.
    """
    n, repeats, by_density = len(latents.raw), run.stability_repeats, run.method == "hdbscan"
    if details.min_cluster_size is not None and n < 2 * details.min_cluster_size:
        return replace(details, verdict=f"one group: {n} particles cannot hold two clusters of "
                                        f"{details.min_cluster_size}")
    n_clusters, seed = int(group.labels.max()) + 1, run.compute.seed
    most_draws = 0 if not by_density else repeats if n_clusters == 1 else max(repeats, stability.NULL_DRAWS)
    with progress_bar(repeats + most_draws, "stability", "repeats") as bar:
        def recluster(part: np.ndarray, seed: int) -> np.ndarray:
            bar.update(1)
            return clustered_part(run, part, n, seed)[2]

        stable, numbers = stability.repeated(latents.raw, group.labels, recluster, repeats, seed)
        details = replace(details, stability=Stability(repeats, stability.subset_size(n), STABLE,
                                                       [float(value) for value in stable], numbers))
        if details.sweep is None:
            return replace(details, verdict=stability.kept_apart(stable, " as asked for")
                           + "; whether they are parted was not tested")
        valley = stability.worst_valley(latents.z, group.labels)
        sizes = [row.min_cluster_size for row in details.sweep]
        draws: list[NullDraw] = []
        for draw in range(most_draws):
            if draw >= repeats and any(stability.as_deep(one, n_clusters, valley) for one in draws):
                break
            draws.append(null_draw(run, latents, sizes if draw < repeats else [], seed + draw))
            bar.update(1)
    longest = stability.plateau(sizes, [row.clusters for row in details.sweep])
    verdict = stability.verdict(stability.StabilityEvidence(stable, numbers, details.unassigned_frac, valley, draws,
                                                            longest))
    sweep = [replace(row, null_clusters=[one.sweep[place] for one in draws[:repeats]])
             for place, row in enumerate(details.sweep)]
    return replace(details, verdict=verdict, valley=valley, null=draws, plateau=longest, sweep=sweep)


def clustered_part(run: ClusterRun, part: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cluster some of n particles as all were: their z with jitter, UMAP points (z for kmeans and gmm), labels."""
    z = density_clustering.jittered(part, seed)
    if run.method != "hdbscan":
        return z, z, grouped(replace(run, n_clusters=min(run.n_clusters, len(z)),
                                     compute=replace(run.compute, seed=seed)), z, z, len(z)).labels
    points = density_clustering.embed_2d(z, run.n_neighbors, run.min_dist, seed, by_tree=True)
    size = smallest_of(run, n)
    return (
        z,
        points,
        density_clustering.group_by_density(
            z, points, density_clustering.part_size(size, n, len(z)), run.min_samples, run.join_valley
        ).labels,
    )


def null_draw(run: ClusterRun, latents: LatentsAsClustered, sizes: list[int], seed: int) -> NullDraw:
    """Cluster one draw of the null, at other smallest ``sizes`` too."""
    n = len(latents.raw)
    rng = np.random.default_rng([seed, n])
    z, points, labels = clustered_part(
        run, stability.null_latents(latents.raw, latents.n_categories, stability.subset_size(n), rng), n, seed)
    others = [
        density_clustering.group_by_density(
            z, points, density_clustering.part_size(size, n, len(z)), run.min_samples, run.join_valley
        ).labels
        for size in sizes
    ]
    return NullDraw(int(labels.max()) + 1, stability.worst_valley(z, labels),
                    [int(other.max()) + 1 for other in others])


def picture_rows(latents: Latents, clusters: Clusters, decoder: Any, out_dir: Path
                 ) -> tuple[list[Row], list[np.ndarray]]:
    """Decode the mean z of every group, the unassigned too, and write it. Returns rows of ``clusters.json``."""
    labels = clusters.labels
    means = np.stack([latents.z[clusters.label == label].mean(axis=0) for label in labels])
    names = ["cluster_unassigned" if label == UNASSIGNED else f"cluster_{label:02d}" for label in labels]
    made = write_decoded(decoder, means, names, out_dir)
    counts = [int((clusters.label == label).sum()) for label in labels]
    rows = [Row(label, count, count / len(latents.z), [float(x) for x in mean], one.file, one.index)
            for label, count, mean, one in zip(labels, counts, means, made, strict=True)]
    return rows, [one.picture for one in made]


def draw(clusters: Clusters, rows: list[Row], shown: list[np.ndarray], out_dir: Path) -> None:
    """Write ``umap.png`` and ``maps.png``."""
    figure = drawing.new_figure(6.5, 5.5)
    n_clusters = int(clusters.label.max()) + 1
    axes = figure.subplots()
    draw_umap(axes, clusters.umap, clusters.label)
    axes.set_title(f"{n_clusters} cluster{'s' * (n_clusters != 1)} of {len(clusters.label)} particles")
    drawing.save_png(figure, out_dir / "umap.png")
    strip = drawing.density_strip(
        [[(picture, f"{cluster_name(row.label)}, {row.n_particles} particles")]
         for row, picture in zip(rows, shown, strict=True)], [row.label for row in rows])
    drawing.save_png(strip, out_dir / "maps.png")


def report(details: Clustering, rows: list[Row]) -> None:
    """Print the result."""
    for row in rows:
        stable = "" if row.stability is None else f", stability {row.stability:.2f}"
        print(f"{cluster_name(row.label)}: {row.n_particles} particles ({100 * row.fraction:.1f} %){stable}")
    if details.sweep is not None:
        print("clusters against min_cluster_size: "
              + ", ".join(f"{row.min_cluster_size}: {row.clusters}" for row in details.sweep))
    print(f"clusters {details.clusters}")
    print(f"unassigned fraction {details.unassigned_frac:.3f}", flush=True)
    if details.verdict is not None:
        print(f"verdict: {details.verdict}", flush=True)
